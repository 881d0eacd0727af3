"""The embedded world `scenes`: rendered scenes with captions, questions and exact graphs."""
