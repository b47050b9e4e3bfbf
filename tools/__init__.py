"""What the project is worked on with: setting up its environment, and the mutants that try its selftests."""
