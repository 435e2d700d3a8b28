//! Tests of the planner, and of what it says over D-Bus.

mod document;
mod missing;
mod planning;
mod property;
mod systemd;
