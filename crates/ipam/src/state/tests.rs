//! The pool through its front door, against a small model of EC2, of the node and of the disk.

mod growth;
mod histories;
mod look;
mod rules;
mod world;
