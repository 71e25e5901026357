"""Forms of an int8 `.tflite` file that older TensorFlow Lite might compute rightly."""
