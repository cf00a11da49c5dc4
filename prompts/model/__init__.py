"""What a prompt version is: content, variables, labels, golden cases. Pure."""
