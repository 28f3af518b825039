"""Fine-tuning on one document: samples, batches, loss and the loop. What pairs are made of is in `synthesis`."""
