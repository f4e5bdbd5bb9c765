"""The machine below: its allocator, fast products and kernels. Nothing here imports torch before it is needed."""
