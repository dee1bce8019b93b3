//! Sampling: which token comes next, when the answer ends, and what text may go out.

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::mpsc;

use crate::local::{Finish, LocalError, Piece, Request};

/// Tokens whose repetition is made less likely: a model this small loops without it.
const REPETITION_WINDOW: usize = 64;
const REPETITION_PENALTY: f32 = 1.1;

/// The state of one answer.
pub(crate) struct Generation {
    temperature: f32,
    top_p: f32,
    stop: Vec<String>,
    random: StdRng,
    input_tokens: usize,
    output_tokens_max: usize,
    output: Vec<u32>,
    /// Text that may be the beginning of a stop string, not given out yet.
    held: String,
}

/// What sampling chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Token(u32),
    End(Finish),
}

impl Generation {
    pub(crate) fn new(request: &Request, input_tokens: usize, output_tokens_max: usize) -> Self {
        Self {
            temperature: request.temperature,
            top_p: request.top_p,
            stop: request.stop.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            random: request.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64),
            input_tokens,
            output_tokens_max,
            output: Vec::new(),
            held: String::new(),
        }
    }

    /// Chooses the next token from the model's scores.
    pub(crate) fn next(&mut self, logits: &[f32], stop_tokens: &[u32]) -> Step {
        if self.output.len() >= self.output_tokens_max {
            return Step::End(Finish::Length);
        }
        let mut scores = logits.to_vec();
        let recent = self.output.len().saturating_sub(REPETITION_WINDOW);
        for token in &self.output[recent..] {
            let score = &mut scores[*token as usize];
            *score = if *score > 0.0 {
                *score / REPETITION_PENALTY
            } else {
                *score * REPETITION_PENALTY
            };
        }
        let token = self.sample(&scores);
        if stop_tokens.contains(&token) {
            return Step::End(Finish::Stop);
        }
        self.output.push(token);
        Step::Token(token)
    }

    fn sample(&mut self, scores: &[f32]) -> u32 {
        let best = highest(scores);
        if self.temperature <= 0.0 {
            return best;
        }
        let top = scores[best as usize];
        let mut weights: Vec<(u32, f32)> = (0_u32..)
            .zip(scores)
            .map(|(token, score)| (token, ((score - top) / self.temperature).exp()))
            .filter(|(_, weight)| *weight > 1e-6)
            .collect();
        weights.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut mass = 0.0;
        let kept = weights.iter().take_while(|(_, weight)| {
            let before = mass;
            mass += weight / total;
            before < self.top_p
        });
        let kept: Vec<_> = kept.copied().collect();
        let sum: f32 = kept.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.random::<f32>() * sum;
        for (token, weight) in &kept {
            at -= weight;
            if at <= 0.0 {
                return *token;
            }
        }
        best
    }

    /// Gives out what of `text` cannot belong to a stop string. True: a stop string ended it.
    pub(crate) fn emit(&mut self, text: &str, pieces: &Pieces) -> Result<bool, LocalError> {
        self.held.push_str(text);
        let stop = self.stop.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = stop {
            self.held.truncate(at);
            self.end(Finish::Stop, "", pieces)?;
            return Ok(true);
        }
        let keep = self.stop.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let out: String = self.held.drain(..self.held.len() - keep).collect();
        if !out.is_empty() {
            send(pieces, Piece::Text(out));
        }
        Ok(false)
    }

    /// Gives out what was held, and the counts.
    pub(crate) fn end(
        &mut self,
        finish: Finish,
        rest: &str,
        pieces: &Pieces,
    ) -> Result<(), LocalError> {
        let text = std::mem::take(&mut self.held) + rest;
        if !text.is_empty() {
            send(pieces, Piece::Text(text));
        }
        let (input_tokens, output_tokens) = (self.input_tokens as u64, self.output.len() as u64);
        send(pieces, Piece::End { finish, input_tokens, output_tokens });
        Ok(())
    }
}

type Pieces = mpsc::Sender<Result<Piece, LocalError>>;

/// A closed channel means that the client left; the worker sees that before its next token.
fn send(pieces: &Pieces, piece: Piece) {
    drop(pieces.blocking_send(Ok(piece)));
}

fn highest(scores: &[f32]) -> u32 {
    let best = (0_u32..).zip(scores).max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(token, _)| token)
}

/// Bytes at the end of `text` that are a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(at, _)| at).skip(1).take_while(|at| *at <= text.len());
    lengths.filter(|at| stop.get(..*at).is_some_and(|head| text.ends_with(head))).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(temperature: f32, top_p: f32, stop: &[&str]) -> Request {
        Request {
            messages: Vec::new(),
            temperature,
            top_p,
            seed: Some(7),
            max_tokens: None,
            stop: stop.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn texts(stop: &[&str], parts: &[&str]) -> (String, bool) {
        let (sender, mut receiver) = mpsc::channel(64);
        let mut generation = Generation::new(&request(0.0, 1.0, stop), 1, 9);
        let mut stopped = false;
        for part in parts {
            stopped = stopped || generation.emit(part, &sender).unwrap();
        }
        if !stopped {
            generation.end(Finish::Stop, "", &sender).unwrap();
        }
        let mut text = String::new();
        while let Ok(Ok(piece)) = receiver.try_recv() {
            if let Piece::Text(part) = piece {
                text.push_str(&part);
            }
        }
        (text, stopped)
    }

    #[test]
    fn nothing_of_a_stop_string_goes_out() {
        assert_eq!(texts(&["END"], &["a E", "N", "D b"]), ("a ".to_owned(), true));
        assert_eq!(texts(&["END"], &["a EN", "T"]), ("a ENT".to_owned(), false));
        assert_eq!(texts(&["ü!"], &["grü", "n"]), ("grün".to_owned(), false));
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let scores: Vec<f32> = (0..50).map(|n| ((n * 37) % 11) as f32 / 3.0).collect();
        let run = || {
            let mut generation = Generation::new(&request(1.0, 0.9, &[]), 1, 30);
            (0..30).map(|_| generation.next(&scores, &[])).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn a_small_top_p_leaves_the_likeliest_token() {
        let mut scores = vec![0.0; 20];
        scores[13] = 9.0;
        let mut generation = Generation::new(&request(1.0, 0.1, &[]), 1, 1);
        assert_eq!(generation.next(&scores, &[]), Step::Token(13));
        assert_eq!(generation.next(&scores, &[]), Step::End(Finish::Length));
    }
}
