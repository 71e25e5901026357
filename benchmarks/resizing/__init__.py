"""How apps make a model's square of a photo when they use what their platform offers."""
