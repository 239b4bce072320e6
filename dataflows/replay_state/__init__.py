"""What lies in a stopped state folder: where it stands, and how two become one."""
