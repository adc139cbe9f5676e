//! Snapshots: taken when no step is open, written when what they stand for is in the log.

use std::io;

use tokio::task::JoinError;

use super::{
    Runtime,
    running::{Phase, Run, Running, Saving},
};
use crate::processor::{
    Service,
    caught::caught,
    snapshot::{Edge, Head, Snapshot},
};

impl<S: Service> Runtime<S> {
    /// Takes a snapshot when it is time, and every step that was begun is decided. Whether it did.
    pub(super) fn take_snapshot(&mut self, run: &mut Run<S>) -> bool {
        if self.settings.snapshots.is_none() {
            return false;
        }
        let Phase::Running(running) = &mut run.phase else { return false };
        if running.saving.is_none() && running.steps_unsaved.is_some_and(|steps| steps >= self.settings.snapshot_steps)
        {
            running.saving = Some(Saving::Wanted);
        }
        let Some(order) = self.core.unit_mut(running.id) else { return false };
        if !matches!(running.saving, Some(Saving::Wanted)) || !order.is_current() {
            return false;
        }
        let written = caught(|| serde_json::to_vec(&running.state).map_err(|error| error.to_string())).flatten();
        let state = match written {
            Ok(state) => state,
            Err(wrong) => {
                // As with keys of maps that are no text: it will not be better next time.
                tracing::warn!(service = self.service.name(), wrong, "the state cannot be written");
                self.counters.snapshots_failed.add(1);
                (running.saving, running.steps_unsaved) = (None, None);
                return true;
            }
        };
        let inputs = running.times.iter().enumerate().map(|(lane, time)| (order.lane(lane).begun, *time)).collect();
        let (mark, newest_id) = (order.mark(), running.newest_id.clone());
        running.saving = Some(Saving::Taken { mark, state, inputs, newest_id });
        running.steps_unsaved = Some(0);
        true
    }

    /// Finishes a snapshot as soon as everything that it stands for is in the log, and nothing else is: only then is it
    /// known how far own outputs are. It is written when no other one of the unit is on its way.
    pub(super) fn save_if_marked(&mut self, unit: u32) {
        self.finish_if_marked(unit);
        let Some(Phase::Running(running)) = self.units.get_mut(&unit).map(|run| &mut run.phase) else { return };
        let is_next = |saving: &mut Saving| matches!(saving, Saving::Finished(_)) && self.saving.insert(unit);
        if let Some(Saving::Finished(snapshot)) = running.saving.take_if(is_next)
            && let Some(path) = self.snapshot_path(unit)
        {
            self.saves.spawn_blocking(move || (unit, snapshot.write(&path)));
        }
    }

    /// Whoever takes a snapshot asks at once, and then it is asked at each block: it is finished at its own mark. One
    /// block later own outputs would be further than the state.
    fn finish_if_marked(&mut self, unit: u32) {
        let Some(run) = self.units.get_mut(&unit) else { return };
        let Phase::Running(running) = &mut run.phase else { return };
        let Some(Saving::Taken { mark, .. }) = &running.saving else { return };
        debug_assert!(running.blocks_in_log <= *mark, "unit {unit} is past its snapshot's mark {mark}");
        if running.blocks_in_log < *mark {
            return;
        }
        let Some(Saving::Taken { state, inputs, newest_id, .. }) = running.saving.take() else { return };
        let Some(head) = self.head(unit, inputs, newest_id) else { return };
        if let Some(Phase::Running(running)) = self.units.get_mut(&unit).map(|run| &mut run.phase) {
            running.saving = Some(Saving::Finished(Box::new(Snapshot { head, state })));
        }
    }

    /// What a snapshot of a unit stands for.
    fn head(&self, unit: u32, inputs: Vec<(u64, Option<i64>)>, newest_id: Option<String>) -> Option<Head> {
        let run = self.units.get(&unit)?;
        let Phase::Running(running) = &run.phase else { return None };
        let Running { own, node_id, .. } = &**running;
        let lanes = run.lanes.iter().zip(inputs);
        let inputs = lanes.map(|((input, partition), (next_offset, append_time_us))| Edge {
            topic: self.inputs[*input].name.to_string(),
            partition: *partition,
            next_offset,
            append_time_us,
        });
        let outputs = own.iter().map(|((topic, partition), end)| Edge {
            topic: self.output_names[*topic].clone(),
            partition: *partition,
            next_offset: end.next_offset,
            append_time_us: end.append_time_us,
        });
        Some(Head {
            service: self.service.name().to_owned(),
            unit,
            node_id: node_id.clone(),
            // It is made when everything that it stands for is in the log.
            incarnation: self.incarnation,
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            newest_id,
        })
    }

    /// Writes a snapshot of every unit, when everything is in the log.
    pub(super) fn save_all(&mut self) {
        if self.settings.snapshots.is_none() {
            return;
        }
        for unit in self.units.keys().copied().collect::<Vec<_>>() {
            let Some(mut run) = self.units.remove(&unit) else { continue };
            if let Phase::Running(running) = &mut run.phase
                && running.steps_unsaved.is_some()
            {
                running.saving = Some(Saving::Wanted);
            }
            self.take_snapshot(&mut run);
            self.units.insert(unit, run);
            self.save_if_marked(unit);
        }
    }

    /// A snapshot was written, or not: that is no reason to stop.
    pub(super) fn on_saved(&mut self, ended: Result<(u32, io::Result<()>), JoinError>) {
        let result = match ended {
            Ok((unit, result)) => {
                self.saving.remove(&unit);
                // Another one may have been taken meanwhile.
                self.save_if_marked(unit);
                result
            }
            Err(panic) => Err(io::Error::other(panic)),
        };
        match result {
            Ok(()) => self.counters.snapshots_written.add(1),
            Err(error) => {
                self.counters.snapshots_failed.add(1);
                tracing::warn!(service = self.service.name(), %error, "a snapshot could not be written");
            }
        }
    }
}
