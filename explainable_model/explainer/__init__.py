"""A photo in, an answer and a picture out."""
