"""The month after it was spent. Named so that `budget_guard.review` can be the function."""
