"""Fine-tuning on one document: samples, auxiliary pairs and the loop."""
