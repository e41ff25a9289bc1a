//! The pool through its front door, against a small model of EC2, of the node and of the disk.

mod histories;
mod rules;
mod world;
