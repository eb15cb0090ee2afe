"""Amazon EKS: the API's own model decides routes, input and output; one function for each operation."""
