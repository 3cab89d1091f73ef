"""Processes that belong together: started, forked, restarted, ended with their starter."""
