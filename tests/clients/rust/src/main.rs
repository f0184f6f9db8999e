//! The six calls by the crate `segment`: `six-calls DRIVER HOST CALLS`; there is one way only, so DRIVER is not looked
//! at. The crate does not try again.

use std::error::Error;

use segment::message::{Alias, BatchMessage, Group, Identify, Page, Screen, Track, User};
use segment::{AutoBatcher, Batcher, HttpClient};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, _, host, calls] = arguments.as_slice() else { return Err("DRIVER HOST CALLS".into()) };
    let calls: Value = serde_json::from_str(&std::fs::read_to_string(calls)?)?;
    let text = |path: &str| calls.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let object = |path: &str| calls.pointer(path).cloned().unwrap_or_default();
    let user = User::UserId { user_id: text("/userId") };

    let client = HttpClient::new(reqwest::Client::new(), host.clone());
    let mut batcher = AutoBatcher::new(client, Batcher::new(None), text("/writeKey"));
    println!("posting");
    let messages: [BatchMessage; 6] = [
        Identify { user: user.clone(), traits: object("/identify/traits"), ..Identify::default() }.into(),
        Track {
            user: user.clone(),
            event: text("/track/event"),
            properties: object("/track/properties"),
            integrations: Some(object("/track/integrations")),
            ..Track::default()
        }
        .into(),
        Page {
            user: user.clone(),
            name: text("/page/name"),
            properties: object("/page/properties"),
            ..Page::default()
        }
        .into(),
        Screen {
            user: user.clone(),
            name: text("/screen/name"),
            properties: object("/screen/properties"),
            ..Screen::default()
        }
        .into(),
        Group {
            user: user.clone(),
            group_id: text("/group/groupId"),
            traits: object("/group/traits"),
            ..Group::default()
        }
        .into(),
        Alias { user, previous_id: text("/alias/previousId"), ..Alias::default() }.into(),
    ];
    for message in messages {
        batcher.push(message).await?;
    }
    batcher.flush().await?;
    Ok(())
}
