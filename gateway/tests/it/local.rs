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

    let question = "What is the capital of France?";
    let (whole, finish, input, output) = answer(&model, ask(question)).await;
    assert!(whole.contains("France"), "{whole}");
    assert_eq!(finish, Finish::Stop);
    assert!(input > 20 && output > 3, "{input} {output}");

    let short = Request { max_tokens: Some(3), ..ask("Tell me a story.") };
    let (_, finish, _, output) = answer(&model, short).await;
    assert_eq!((finish, output), (Finish::Length, 3));

    let stopped = Request { stop: vec!["France".to_owned()], ..ask(question) };
    let (text, finish, ..) = answer(&model, stopped).await;
    assert_eq!((Some(text.as_str()), finish), (whole.split("France").next(), Finish::Stop));

    let warm = Request { temperature: 1.0, ..ask("Tell me a story.") };
    let other = Request { seed: Some(2), ..warm.clone() };
    let told = answer(&model, warm.clone()).await;
    assert_eq!(told, answer(&model, warm).await);
    assert_ne!(told, answer(&model, other).await);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_the_next_is_answered() {
    let model = LocalModel::start(&Settings::default(), &folder()).unwrap();
    let refused = async |request| model.generate(request).unwrap().next().await.unwrap();

    for request in [
        Request { max_tokens: Some(1_000_000), ..ask("Hello") },
        Request { max_tokens: Some(usize::MAX), ..ask("Hello") },
        ask(&"<|im_".repeat(4_000_000)),
    ] {
        let fault = refused(request).await.unwrap_err();
        assert!(matches!(fault, LocalError::ContextLength { .. }), "{fault}");
    }
    assert_eq!(answer(&model, Request { max_tokens: Some(2), ..ask("Hi") }).await.3, 2);
}

#[test]
fn a_missing_model_says_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let fault = LocalModel::start(&Settings::default(), empty.path()).unwrap_err();
    assert!(fault.to_string().contains("cordon models prepare"), "{fault}");
}
