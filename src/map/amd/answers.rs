//! Facts about the machine and the network that an entry depends on.

use std::collections::BTreeMap;

/// Questions of one entry at most: each may cost a look into a directory or a question to a server.
pub const QUESTIONS_MAX: usize = 256;

/// A question that the evaluation of an entry asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Whether a path exists; a symbolic link at its end is not followed.
    Exists(Vec<u8>),
    /// Whether this host has an address on a network, given by name or address.
    OnNetwork(Vec<u8>),
    /// Whether a name means this host.
    IsThisHost(Vec<u8>),
    /// Whether a host is in a netgroup.
    InNetgroup {
        /// The netgroup.
        group: Vec<u8>,
        /// The host.
        host: Vec<u8>,
    },
    /// The canonical name of a host.
    Canonical(Vec<u8>),
    /// Whether a host is this one, on one of its subnets, or on one of its networks.
    IsNear(Vec<u8>),
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes or no.
    Is(bool),
    /// A name.
    Name(Vec<u8>),
}

/// The facts that are known so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers(BTreeMap<Question, Answer>);

impl Answers {
    /// Adds an answer.
    pub fn insert(&mut self, question: Question, answer: Answer) {
        self.0.insert(question, answer);
    }

    /// Returns the answer to a question of yes or no, if it is known.
    pub fn is(&self, question: &Question) -> Option<bool> {
        self.0.get(question).map(|answer| matches!(answer, Answer::Is(true)))
    }

    /// Returns a name, if it is known. An inner `None` tells that there is none.
    pub fn name(&self, question: &Question) -> Option<Option<&[u8]>> {
        self.0.get(question).map(|answer| match answer {
            Answer::Name(name) => Some(&**name),
            Answer::Is(_) => None,
        })
    }

    /// Returns the number of answers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
