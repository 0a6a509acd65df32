"""What a server has done, and how it is: figures, metrics, health, logs."""
