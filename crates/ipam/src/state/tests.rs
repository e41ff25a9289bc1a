//! The pool through its front door, against a small model of EC2, of the node and of the disk.

mod cases;
mod exhaustive;
mod found;
mod governed;
mod groups;
mod growth;
mod histories;
mod in_kernel;
mod leaving;
mod look;
mod making;
mod mending;
mod page;
mod rules;
mod shown;
mod subnets;
mod suites_find;
mod torture_finds;
mod tries;
mod why;
mod world;
