//! The pool through its front door, against a small model of EC2, of the node and of the disk.

mod cases;
mod exhaustive;
mod found;
mod governed;
mod growth;
mod histories;
mod look;
mod page;
mod rules;
mod subnets;
mod suites_find;
mod torture_finds;
mod tries;
mod why;
mod world;
