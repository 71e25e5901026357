"""An aarch64 Python with the phones' runtimes under QEMU, and the instructions that it executes."""
