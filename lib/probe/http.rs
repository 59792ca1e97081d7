//! `http://`, `https://`, `http+unix://`: does it answer as it should?

use crate::probe::demand::Demand;
use crate::probe::inquiry::Inquiry;
use crate::probe::json::JsonTest;
use crate::probe::pattern::Pattern;
use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::http::{self, Hearing, Request};
use crate::sys::net::{Endpoint, Link};
use crate::sys::owner;
use crate::sys::process::Pid;
use crate::words::error::brief;
use crate::words::failure::{Class, Failure};
use std::time::Instant;

/// A range of HTTP statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    first: u16,
    last: u16,
}

impl Statuses {
    /// What Kubernetes takes for success, 200 to 399.
    pub const SUCCESS: Statuses = Statuses { first: 200, last: 399 };
    /// 200 and nothing else.
    pub const OK: Statuses = Statuses { first: 200, last: 200 };

    /// Reads `200`, `2xx` or `200-299`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Statuses, String> {
        let wrong = || format!("'{text}' is not an HTTP status; write 200, 2xx or 200-399");
        // Blanks follow the commas of a list.
        let text = text.trim_matches(' ');
        let number = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|number| text.len() == 3 && (100..=599).contains(number))
                .ok_or_else(wrong)
        };
        if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
            let class =
                class.parse::<u16>().ok().filter(|class| (1..=5).contains(class)).ok_or_else(wrong)?;
            return Ok(Statuses { first: class * 100, last: class * 100 + 99 });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first > last { Err(wrong()) } else { Ok(Statuses { first, last }) }
    }

    /// Whether `status` is one of them.
    pub fn hold(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(out, "{}", self.first)
        } else {
            write!(out, "{}-{}", self.first, self.last)
        }
    }
}

/// So much of a body is held against patterns while more of it arrives.
const EARLY: usize = 64 * 1024;

/// What the answer must be.
#[derive(Clone, Debug)]
pub struct AnswerRules {
    /// Good statuses.
    pub statuses: Vec<Statuses>,
    /// Header fields that must be there, one of that name with this text in it.
    pub headers: Vec<HeaderText>,
    /// Texts that the body must hold.
    pub contains: Vec<String>,
    /// Patterns that the body must match.
    pub patterns: Vec<Pattern>,
    /// What the JSON body must hold.
    pub json: Vec<JsonTest>,
}

impl AnswerRules {
    /// One of these statuses, and nothing else is of interest.
    pub fn of_statuses(statuses: Vec<Statuses>) -> AnswerRules {
        let (headers, contains, patterns, json) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        AnswerRules { statuses, headers, contains, patterns, json }
    }

    /// Whether the body is of interest.
    pub fn want_body(&self) -> bool {
        !self.contains.is_empty() || !self.patterns.is_empty() || !self.json.is_empty()
    }

    /// Judges an answer, until `deadline`.
    ///
    /// # Errors
    /// The first rule that it breaks, or that there was no time to find out.
    pub fn judge(&self, answer: &http::Answer, deadline: Instant) -> Result<(), Failure> {
        self.judge_head(answer).and_then(|()| self.judge_body(answer, deadline))
    }

    /// Whether what has come of an answer decides, though more of it may come: a wrong status does, and a
    /// body that is as wanted already. `before` bytes of it were looked at the last time.
    pub fn is_clear(&self, answer: &http::Answer, before: usize, deadline: Instant) -> bool {
        if self.judge_head(answer).is_err() {
            return true;
        }
        let large = !self.patterns.is_empty() && answer.body.len() > EARLY;
        // What is not JSON yet may become it, and a match at the end may be none when the end moves.
        if !self.json.is_empty() || large || !self.patterns.iter().all(Pattern::is_steady) {
            return false;
        }
        let may_have_come =
            self.contains.is_empty() || self.contains.iter().any(|one| answer.holds(one, before));
        may_have_come && self.judge_body(answer, deadline).is_ok()
    }

    fn judge_head(&self, answer: &http::Answer) -> Result<(), Failure> {
        let refuse = |class: Class, text: String| Failure { class, text, http_status: Some(answer.status) };
        if !self.statuses.iter().any(|one| one.hold(answer.status)) {
            return Err(refuse(Class::Status, format!("answered {}", answer.status)));
        }
        for HeaderText { name, text } in &self.headers {
            let mut values = answer.header_all(name).peekable();
            if values.peek().is_none() {
                return Err(refuse(Class::Header, format!("the answer has no header {name}")));
            }
            if !values.any(|value| value.contains(text)) {
                let why = format!("the header {name} does not contain '{}'", brief(text));
                return Err(refuse(Class::Header, why));
            }
        }
        Ok(())
    }

    fn judge_body(&self, answer: &http::Answer, deadline: Instant) -> Result<(), Failure> {
        let refuse = |text: String| {
            let text = text + &answer.coding_note();
            Failure { class: Class::Body, text, http_status: Some(answer.status) }
        };
        if let Some(missing) = self.contains.iter().find(|wanted| !answer.holds(wanted, 0)) {
            return Err(refuse(format!("the body does not contain '{}'", brief(missing))));
        }
        for pattern in &self.patterns {
            match pattern.matches_until(&answer.body, deadline) {
                Some(true) => {}
                Some(false) => {
                    let why = format!("the body does not match '{}'", brief(&pattern.to_string()));
                    return Err(refuse(why));
                }
                None => return Err(Failure::timeout("looking for a regular expression")),
            }
        }
        self.json.iter().try_for_each(|wanted| wanted.check(&answer.body).map_err(refuse))
    }
}

/// A text that a header field of the answer must contain: `Content-Type=json`.
#[derive(Clone, Debug)]
pub struct HeaderText {
    name: String,
    text: String,
}

impl HeaderText {
    /// Reads `NAME=TEXT`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<HeaderText, String> {
        let (name, text) = text.split_once('=').ok_or("write NAME=TEXT, like Content-Type=json")?;
        if !http::is_token(name) {
            return Err("the name of a header must be a token (RFC 9110, 5.6.2)".to_owned());
        }
        Ok(HeaderText { name: name.to_owned(), text: text.to_owned() })
    }
}

impl std::fmt::Display for HeaderText {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}={}", self.name, self.text)
    }
}

/// Up when the answer has one of the statuses, the body is as asked, and the process meets the demand.
pub struct Http {
    /// What is asked.
    pub request: Request,
    /// What the answer must be.
    pub rules: AnswerRules,
    /// Who must have answered.
    pub demand: Demand,
}

impl Http {
    fn judge(
        &self,
        answer: &http::Answer,
        who: ProbeAnswer,
        deadline: Instant,
    ) -> Result<ProbeAnswer, Failure> {
        self.rules.judge(answer, deadline)?;
        Ok(ProbeAnswer { http_status: Some(answer.status), ..who })
    }
}

/// Who answers along the way of one question: at the place that is asked, and where it leads to.
struct Way<'a> {
    probe: &'a Http,
    deadline: Instant,
    /// The connection that stands.
    inquiry: Option<Inquiry<'a>>,
    /// What was found out at the last one that was judged.
    who: Option<Result<ProbeAnswer, Failure>>,
}

impl Hearing for Way<'_> {
    type Verdict = ProbeAnswer;

    async fn meet(&mut self, link: &Link) -> Result<(), Failure> {
        self.inquiry.insert(self.probe.demand.inquire(link)).connected(self.deadline).await
    }

    async fn hop(&mut self) -> Result<(), Failure> {
        let Some(inquiry) = &mut self.inquiry else { return Ok(()) };
        let who = inquiry.answered(self.deadline).await;
        // Whoever counts has led to another machine, and nobody here can tell who answers there.
        if matches!(self.who, Some(Ok(_))) && inquiry.is_far() {
            return Ok(());
        }
        // The last one alone is judged where others may lead to it.
        let led = if self.probe.demand.any_process { Ok(()) } else { who.clone().map(drop) };
        self.who = Some(who);
        led
    }

    fn enough(&self, answer: &http::Answer, before: usize) -> bool {
        self.probe.rules.is_clear(answer, before, self.deadline)
    }

    fn verdict(&mut self, answer: &http::Answer) -> Result<ProbeAnswer, Failure> {
        // Who answered comes first: what a wrong process says is of no interest.
        let who = self.who.take().unwrap_or_else(|| Ok(ProbeAnswer::default()))?;
        self.probe.judge(answer, who, self.deadline)
    }
}

impl Probe for Http {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        let mut way = Way { probe: self, deadline, inquiry: None, who: None };
        Box::pin(async move { http::hear(&self.request, deadline, &mut way).await })
    }

    fn endpoint(&self) -> Option<Endpoint> {
        self.request.route.place(&self.request.url)
    }

    fn holder(&self, deadline: Instant) -> Option<Pid> {
        owner::holder(&self.request.url.endpoint(), deadline)
    }

    fn cost(&self) -> Cost {
        // Through a proxy another machine is asked each time.
        self.request.route.place(&self.request.url).map_or(Cost::Remote, |place| Cost::of(&place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_header_must_contain() {
        let read = |text: &str| HeaderText::parse(text).map(|one| (one.name, one.text));
        assert_eq!(read("ETag=a=b"), Ok(("ETag".to_owned(), "a=b".to_owned())));
        assert!(read("ETag").is_err() && read("=x").is_err() && read("a b=x").is_err());
    }

    #[test]
    fn reads_statuses() {
        let two = Statuses::parse("2xx").unwrap();
        assert!(two.hold(204) && !two.hold(301));
        assert!(Statuses::parse("200-399").unwrap().hold(302));
        assert!(Statuses::parse("404").unwrap().hold(404));
        assert_eq!(Statuses::parse(" 2XX"), Ok(two));
        for text in ["", "2x", "xx", "6xx", "99", "600", "+20", "300-200", "200-", "abc"] {
            assert!(Statuses::parse(text).is_err(), "{text}");
        }
    }
}
