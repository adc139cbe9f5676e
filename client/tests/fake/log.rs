//! The log service of the fake: duplicates, gaps and fences as the contract has
//! them, broken streams as the script has them.

use std::pin::Pin;

use tillroll_proto::{
    reason,
    v1::{self, append_outcome, append_stream_response::Event, log_service_server::LogService, read_response},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Fake, Fate, Producer, ReadFate, State, Stored, as_message, refusal};

pub(crate) type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl LogService for Fake {
    type AppendStreamStream = Out<v1::AppendStreamResponse>;
    type ReadStream = Out<v1::ReadResponse>;

    async fn get_server(&self, _: Request<v1::GetServerRequest>) -> Result<Response<v1::GetServerResponse>, Status> {
        Ok(Response::new(v1::GetServerResponse {
            version: "fake".into(),
            node_id: "fake".into(),
            incarnation: self.state.lock().incarnation,
            ..Default::default()
        }))
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        let gate = self.state.lock().registrations.clone();
        if let Some(gate) = gate {
            gate.acquire().await.expect("open").forget();
        }
        let mut state = self.state.lock();
        let v1::InitProducerRequest { producer_id: mut id, expected_epoch, .. } = request.into_inner();
        if id.starts_with("made-up-") && !state.producers.contains_key(&id) {
            return Err(refusal(reason::PRODUCER_UNKNOWN, &[]));
        }
        if state.room.is_some_and(|room| room <= state.producers.len()) && !state.producers.contains_key(&id) {
            return Err(refusal(reason::PRODUCERS_FULL, &[(reason::key::LIMIT, state.producers.len().to_string())]));
        }
        if id.is_empty() {
            state.made_up += 1;
            id = format!("made-up-{}", state.made_up);
        }
        let producer = state.producers.entry(id.clone()).or_insert_with(|| Producer { next: 1, ..Producer::default() });
        if expected_epoch.is_some_and(|expected| expected != producer.epoch) {
            return Err(refusal(reason::PRODUCER_FENCED, &[]));
        }
        producer.epoch += 1;
        Ok(Response::new(v1::InitProducerResponse {
            producer_id: id,
            epoch: producer.epoch,
            next_sequence: producer.next,
            accepted_records: producer.records,
            recent: vec![],
            has_older: false,
        }))
    }

    async fn list_producers(
        &self,
        _: Request<v1::ListProducersRequest>,
    ) -> Result<Response<v1::ListProducersResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn list_producer_appends(
        &self,
        _: Request<v1::ListProducerAppendsRequest>,
    ) -> Result<Response<v1::ListProducerAppendsResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn delete_producer(
        &self,
        _: Request<v1::DeleteProducerRequest>,
    ) -> Result<Response<v1::DeleteProducerResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        self.state.lock().apply(&request.into_inner()).map(Response::new)
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(64);
        let fake = self.clone();
        tokio::spawn(async move { fake.answer_all(request.into_inner(), answers).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock();
        let responses = state.read(&request);
        state.reads.push(request);
        Ok(Response::new(Box::pin(tokio_stream::iter(responses))))
    }
}

impl Fake {
    async fn answer_all(
        &self,
        mut requests: Streaming<v1::AppendStreamRequest>,
        answers: mpsc::Sender<Result<v1::AppendStreamResponse, Status>>,
    ) {
        let event = |event| Ok(v1::AppendStreamResponse { event: Some(event) });
        let opened =
            v1::AppendStreamOpened { max_in_flight_appends: 8, max_in_flight_bytes: 1 << 20, heartbeat_ms: 10_000 };
        let _ = answers.send(event(Event::Opened(opened))).await;
        while let Ok(Some(request)) = requests.message().await {
            let append = request.append.unwrap_or_default();
            let fate = self.state.lock().fates.pop_front().unwrap_or(Fate::Keep);
            if fate == Fate::Forget {
                self.state.lock().producers.clear();
            }
            let result = match fate {
                Fate::LoseBefore => return,
                Fate::Refuse(name) => Err(refusal(name, &[])),
                Fate::Keep | Fate::LoseAfter | Fate::Forget => self.state.lock().apply(&append),
            };
            if fate == Fate::LoseAfter {
                return;
            }
            let result = match result {
                Ok(answer) => append_outcome::Result::Ok(answer),
                Err(status) => append_outcome::Result::Refused(as_message(&status)),
            };
            self.changed.notify_waiters();
            let outcome = v1::AppendOutcome { append_id: request.append_id, result: Some(result) };
            let _ = answers.send(event(Event::Outcome(outcome))).await;
        }
    }
}

impl State {
    fn apply(&mut self, append: &v1::AppendRequest) -> Result<v1::AppendResponse, Status> {
        let crc =
            crc32fast::hash(&prost::Message::encode_to_vec(&v1::AppendRequest { producer: None, ..append.clone() }));
        if let Some(stamp) = &append.producer
            && let Some(answer) = self.judge(stamp, crc)?
        {
            return Ok(answer);
        }
        self.judge_commits(&append.commits, &append.checks)?;
        let mut batches = Vec::new();
        self.time_us = self.time_us.max(now_us()) + 1;
        let append_time_us = self.time_us;
        for (index, batch) in append.batches.iter().enumerate() {
            let Some(v1::append_batch::Content::Encoded(encoded)) = &batch.content else {
                return Err(Status::unimplemented("the fake takes encoded batches only"));
            };
            let partition = batch.partition.unwrap_or_default();
            let stored = self.log.entry((batch.topic.clone(), partition)).or_default();
            let base_offset = stored.last().map_or(0, Stored::end);
            stored.push(Stored { base_offset, append_time_us, batch: encoded.clone() });
            batches.push(v1::AppendedBatch {
                batch_index: index as u32,
                topic: batch.topic.clone(),
                partition,
                base_offset,
                record_count: encoded.record_count,
                ..Default::default()
            });
        }
        self.accepted.push(batches.len());
        self.move_cursors(&append.commits);
        let mut answer = v1::AppendResponse {
            batches,
            durability: v1::Durability::Fsync.into(),
            append_time_us,
            ..Default::default()
        };
        if let Some(stamp) = &append.producer {
            let producer = self.producers.get_mut(&stamp.producer_id).expect("it was judged");
            producer.next += 1;
            producer.records += answer.batches.iter().map(|batch| u64::from(batch.record_count)).sum::<u64>();
            answer.next_sequence = producer.next;
            producer.answers.insert(stamp.sequence, (crc, answer.clone()));
        }
        self.pump();
        Ok(answer)
    }

    /// The answer of an append that was accepted before, or why it is refused.
    fn judge(&self, stamp: &v1::ProducerStamp, crc: u32) -> Result<Option<v1::AppendResponse>, Status> {
        let Some(producer) = self.producers.get(&stamp.producer_id) else {
            return Err(refusal(reason::PRODUCER_UNKNOWN, &[]));
        };
        if stamp.epoch < producer.epoch {
            return Err(refusal(reason::PRODUCER_FENCED, &[]));
        }
        if stamp.sequence > producer.next {
            let next = (reason::key::NEXT, producer.next.to_string());
            return Err(refusal(reason::SEQUENCE_GAP, &[next]));
        }
        match producer.answers.get(&stamp.sequence) {
            Some((first, _)) if *first != crc => Err(refusal(reason::SEQUENCE_REUSED, &[])),
            Some((_, answer)) => Ok(Some(v1::AppendResponse { duplicate: true, ..answer.clone() })),
            None => Ok(None),
        }
    }

    fn read(&mut self, request: &v1::ReadRequest) -> Vec<Result<v1::ReadResponse, Status>> {
        let event = |event| Ok(v1::ReadResponse { event: Some(event) });
        let mut responses = Vec::new();
        for ((topic, partition), stored) in &self.log {
            let partition = *partition;
            let is_asked = request.partitions.is_empty() || request.partitions.contains(&partition);
            if *topic != request.topic || !is_asked {
                continue;
            }
            let resumed = request.resume.iter().find(|from| from.partition == partition);
            let from = resumed.map_or(0, |resumed| resumed.next_offset);
            for stored in stored.iter().filter(|stored| stored.end() > from) {
                let mut encoded = stored.range();
                match self.read_fates.pop_front().unwrap_or(ReadFate::Keep) {
                    ReadFate::Keep => {}
                    ReadFate::Break => {
                        responses.push(Err(Status::unavailable("gone")));
                        return responses;
                    }
                    ReadFate::Refuse(name) => {
                        responses.push(Err(refusal(name, &[])));
                        return responses;
                    }
                    ReadFate::Damage => encoded.batch.as_mut().expect("it is there").crc32 ^= 1,
                }
                responses.push(event(read_response::Event::Batch(v1::Batch {
                    topic: request.topic.clone(),
                    partition,
                    next_offset: stored.end(),
                    encoded: Some(encoded),
                    ..Default::default()
                })));
            }
        }
        responses.push(event(read_response::Event::CaughtUp(v1::CaughtUp::default())));
        responses
    }
}

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
    i64::try_from(since.as_micros()).expect("it is not that late")
}
