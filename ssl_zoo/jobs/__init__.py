"""Jobs as the queue, their history and their logs show them; nothing here changes a job."""
