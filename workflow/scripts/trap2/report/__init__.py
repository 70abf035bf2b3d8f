"""Tables, figures and claims, in the paper's layouts."""
