"""A model of cluster-autoscaler 1.36 on AWS: what it decides is pure (``decide``), what it looks at and does is in ``loop``.

Its rules are read in the source of cluster-autoscaler and of its AWS provider. What the model leaves out is in lab/README.md.
"""
