"""Who may do what, and how often: tokens and rates."""
