//! A fake agent and a history checker.
