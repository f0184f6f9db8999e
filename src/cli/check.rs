//! `check`: would the service take this configuration?

use clap::Args;
use serde_json::{Value, json};

use super::plural::count;
use super::{Failure, Files, examples, say, say_json};
use crate::settings::{self, Problem, Problems, Settings};

/// Check the configuration and end: 0 if `serve` would accept it
#[derive(Debug, Args)]
#[command(after_long_help = examples::CHECK)]
pub(super) struct Check {
    #[command(flatten)]
    files: Files,
    /// Check as `serve --sandbox` would
    #[arg(long)]
    sandbox: bool,
    /// The result, or the problems, as JSON
    #[arg(long)]
    json: bool,
}

/// What an operator should know before partner mode is on.
const PARTNER_MODE: &str = "\
Partner mode is on (ingress.partner_mode): besides them, any organization token is accepted as the Basic user name.
Anybody who knows one can send in its name, and a token can be read in every page of a shop. That is Segment's contract
for Direct Destinations: let only Segment's addresses reach the service.
";

impl Check {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let found = self.files.found();
        let read = found.absolute();
        let origin = found.origin.as_str();
        let checked = Settings::load(&found.paths, &settings::environment())
            .and_then(|settings| settings.check(self.sandbox));
        let checked = match checked {
            Ok(checked) => checked,
            Err(Problems(problems)) if self.json => {
                let problems: Vec<_> = problems.iter().map(as_json).collect();
                say_json(
                    &json!({ "good": false, "files": read, "files_from": origin, "problems": problems }),
                );
                return Err(Failure::usage(count(problems.len(), "problem")));
            }
            Err(problems) => return Err(Failure::usage(problems)),
        };
        let partner_mode = checked.settings.ingress.partner_mode;
        let mut names: Vec<_> = checked.organizations.iter().map(|it| it.name.as_str()).collect();
        names.sort_unstable();
        let warnings = checked.warnings();
        if self.json {
            let warnings: Vec<_> = warnings.iter().map(as_json).collect();
            say_json(&json!({
                "good": true, "files": read, "files_from": origin, "organizations": names,
                "partner_mode": partner_mode, "warnings": warnings
            }));
            return Ok(());
        }
        for warning in warnings {
            say(&format!("warning: {warning}\n"));
        }
        say(&format!(
            "The configuration is good: {}.\nConfiguration file: {found}\n",
            count(names.len(), "organization")
        ));
        if partner_mode {
            say(PARTNER_MODE);
        }
        Ok(())
    }
}

fn as_json(problem: &Problem) -> Value {
    let place = problem.place.as_ref().map(ToString::to_string);
    json!({ "place": place, "key": problem.key, "message": problem.message })
}
