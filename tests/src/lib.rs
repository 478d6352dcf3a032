//! Golden scripts, paper claims and end-to-end tests.
