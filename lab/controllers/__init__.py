"""Programs that run in a cluster's pods and act on AWS: started when their pod runs, stopped when it goes."""
