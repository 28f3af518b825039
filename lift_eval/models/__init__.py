"""Base models: loading checkpoints and tokenizers, devices, number formats, the allocator."""
