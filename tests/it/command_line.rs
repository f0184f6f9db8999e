//! The manners of the command line: help that tells exit codes, completions that shells understand, a manual.

use std::process::Output;

use crate::manners::commands;
use crate::service::{PATIENCE, program};
use crate::skipped::skipped;

async fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let output = program(directory.path()).args(arguments).output();
    tokio::time::timeout(PATIENCE, output).await.expect("it does not end").unwrap()
}

async fn said(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_help_tells_exit_codes_and_is_plain_where_nobody_looks() {
    let help = said(&["--help"]).await;
    for code in [
        "Exit codes:\n",
        "\n  0  in order",
        "\n  1  something failed, at the start",
        "\n  2  the command line",
    ] {
        assert!(help.contains(code), "{code}\n{help}");
    }
    assert!(!help.contains('\u{1b}'), "colours in a pipe: {help}");
    let wrong = run(&["serv"]).await;
    let complaint = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(complaint.contains("a similar subcommand exists: 'serve'"), "{complaint}");
    assert!(!complaint.contains('\u{1b}'), "colours in a pipe: {complaint}");
}

#[tokio::test]
async fn shells_understand_their_completions_and_find_every_command_in_them() {
    let commands = commands().await;
    assert!(commands.len() > 6, "{commands:?}");
    let directory = tempfile::tempdir().unwrap();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = said(&["completions", shell]).await;
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
        let file = directory.path().join(shell);
        std::fs::write(&file, &script).unwrap();
        match std::process::Command::new(shell).arg(check).arg(&file).output() {
            Ok(judged) => assert!(judged.status.success() && judged.stderr.is_empty(), "{shell}: {judged:?}"),
            Err(_) => skipped(&format!("completions for {shell}"), &format!("{shell} is not installed")),
        }
    }
}

#[tokio::test]
async fn every_command_has_its_page_in_the_manual() {
    let page = said(&["man"]).await;
    assert!(page.contains(".TH wigzo-destination 1") && page.contains("Exit codes:"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    said(&["man", "--into", directory.path().to_str().unwrap()]).await;
    for command in commands().await.iter().filter(|it| *it != "help") {
        let page = directory.path().join(format!("wigzo-destination-{command}.1"));
        assert!(page.is_file(), "{page:?}");
        match std::process::Command::new("man").arg("--warnings").arg("-l").arg(&page).output() {
            Ok(judged) => {
                assert!(judged.status.success() && judged.stderr.is_empty(), "{command}: {judged:?}");
            }
            Err(_) => skipped("pages of the manual", "man is not installed"),
        }
    }
    let nowhere = run(&["man", "--into", "/no/such/directory"]).await;
    assert_eq!(nowhere.status.code(), Some(1));
}
