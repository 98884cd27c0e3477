"""From a downloaded Kaggle image competition to a rehearsed submission kernel."""
