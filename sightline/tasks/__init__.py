"""What is learned from which data: readers, tokenizers, the tasks, and the data built in."""
