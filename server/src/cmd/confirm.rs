//! What cannot be taken back is asked for first: a person types the name of what is meant. Where nobody can be asked,
//! nothing is done.

use std::io::{self, BufRead as _, IsTerminal as _};

use crate::cmd::{
    fail::{Code, Failure},
    terminal,
};

/// Asks, the question in the last of the lines, and goes on only when the name was typed. `doing` is what asks, for
/// whoever is not at a terminal.
pub(crate) async fn by_name(doing: &str, mut question: Vec<String>, name: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{doing} asks, and nobody is there to answer")).hint("add --yes"));
    }
    if let Some(last) = question.last_mut() {
        *last = format!("{last}? type {name} to go on: ");
    }
    terminal::ask(&question)?;
    // On a thread of its own: whoever waits here for a line hears no Ctrl-C.
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(|_| Failure::plain("reading the answer did not end in order"))?;
    let answer = answer.map_err(|error| Failure::io("reading the answer", &error))?;
    if answer.trim() == name {
        return Ok(());
    }
    Err(Failure::new(Code::Failure, "another name was typed: nothing is changed"))
}
