"""Notices: warnings that this machine will be taken, from every source that gives one."""
