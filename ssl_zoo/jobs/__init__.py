"""Shows jobs from the queue, their history and their logs; nothing here changes a job."""
