"""What is kept of a call, without secrets, and the ports through which it leaves."""
