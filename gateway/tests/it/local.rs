//! The local model, where its files have been prepared (`CORDON_MODELS`, or `data/models`).

use std::path::PathBuf;

use cordon_gateway::local::{Finish, LocalError, LocalModel, Message, Piece, Request, Settings};

fn folder() -> PathBuf {
    std::env::var_os("CORDON_MODELS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data/models"),
        Into::into,
    )
}

fn ask(text: &str) -> Request {
    Request {
        messages: vec![Message { role: "user".to_owned(), text: text.to_owned() }],
        temperature: 0.0,
        top_p: 1.0,
        seed: Some(1),
        max_tokens: Some(24),
        stop: Vec::new(),
    }
}

async fn answer(model: &LocalModel, request: Request) -> (String, Finish, u64, u64) {
    let mut answer = model.generate(request).unwrap();
    let mut text = String::new();
    loop {
        match answer.next().await.unwrap().unwrap() {
            Piece::Text(part) => text.push_str(&part),
            Piece::End { finish, input_tokens, output_tokens } => {
                return (text, finish, input_tokens, output_tokens);
            }
        }
    }
}

#[tokio::test]
async fn the_local_model_answers_and_counts() {
    let model = LocalModel::start(&Settings::default(), &folder()).unwrap();

    let (text, finish, input, output) = answer(&model, ask("What is the capital of France?")).await;
    assert!(text.contains("Paris"), "{text}");
    assert_eq!(finish, Finish::Stop);
    assert!(input > 20 && output > 3, "{input} {output}");

    let short = Request { max_tokens: Some(3), ..ask("Tell me a story.") };
    let (_, finish, _, output) = answer(&model, short).await;
    assert_eq!((finish, output), (Finish::Length, 3));

    let stopped =
        Request { stop: vec!["France".to_owned()], ..ask("What is the capital of France?") };
    let (text, finish, ..) = answer(&model, stopped).await;
    assert!(!text.contains("France") && finish == Finish::Stop, "{text}");

    let warm = Request { temperature: 1.0, ..ask("Tell me a story.") };
    assert_eq!(answer(&model, warm.clone()).await, answer(&model, warm).await);

    let long = Request { max_tokens: Some(1_000_000), ..ask("Hello") };
    let mut refused = model.generate(long).unwrap();
    let fault = refused.next().await.unwrap().unwrap_err();
    assert!(matches!(fault, LocalError::ContextLength { .. }), "{fault}");
}

#[test]
fn a_missing_model_says_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let fault = LocalModel::start(&Settings::default(), empty.path()).unwrap_err();
    assert!(fault.to_string().contains("cordon models prepare"), "{fault}");
}
