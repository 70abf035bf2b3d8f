"""Algorithm 1 as a loop, the choice of λ, and one fine-tuning job."""
