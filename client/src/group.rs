//! Consumer groups, as whoever runs them sees them: making, describing, pausing
//! and deleting them, and moving their cursors.
//!
//! [`asked`] is what a program asks for, [`told`] what it is told; here are the
//! calls between the two.

mod asked;
mod told;

use tillroll_proto::v1;

pub use asked::{AssignmentRule, BelowHead, CursorCommit, GroupMode, GroupOptions, GroupUpdate, SetCursors};
pub use told::{Assignment, CursorInfo, CursorMove, Finding, GroupExplanation, GroupInfo, MemberInfo};

use crate::{Client, Error, admin::next_page};

/// Groups of one page of a listing. Each comes with its members and its first cursors.
const PAGE: u32 = 25;
/// Cursors of one page of a group that has many.
const CURSORS_PAGE: u32 = 1_000;

/// Makes, describes, changes and deletes consumer groups, and moves their
/// cursors. Every change is durable when the call returns.
///
/// ```no_run
/// # async fn run() -> Result<(), tillroll_client::Error> {
/// # let client = tillroll_client::Client::connect("127.0.0.1:7420").await?;
/// use tillroll_client::{CursorCommit, GroupMode, GroupOptions, Position};
///
/// let options = GroupOptions::new(["orders"], GroupMode::Manual, Position::Earliest);
/// client.groups().create("mailer", options).await?;
///
/// let mut reader = client.reader("orders").from_group("mailer").open().await?;
/// while let Some(received) = reader.next().await {
///     let received = received?; // mail it, then say so
///     let done = CursorCommit::new("mailer", "orders", received.partition, received.offset + 1);
///     client.groups().commit_cursors([done.expected_offset(received.offset)]).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Groups {
    client: Client,
}

impl Groups {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes a group, and says whether this call made it. Repeating it with
    /// equal options is OK.
    ///
    /// **Errors**: `Conflict` (`GROUP_EXISTS`) when it is there with other
    /// settings; `NotFound` without one of its topics; `InvalidInput` for a bad
    /// name or setting, and for topics with unequal numbers of partitions under
    /// [`AssignmentRule::CoPartitioned`].
    pub async fn create(&self, name: impl Into<String>, options: GroupOptions) -> Result<(GroupInfo, bool), Error> {
        let name = name.into();
        let context = format!("create group {name}");
        let request = v1::CreateGroupRequest { name, config: Some(options.into_wire()?) };
        let answer = self.client.group_calls().create_group(request).await;
        let answer = answer.map_err(|status| Error::from_status(&context, &status))?.into_inner();
        Ok((self.whole(answer.group).await?, answer.created))
    }

    /// Describes a group with its members and cursors.
    ///
    /// **Errors**: `NotFound`.
    ///
    /// **Cost**: for each cursor with a lag the server looks up how old the
    /// record there is, which may take a read of its disk.
    pub async fn get(&self, name: &str) -> Result<GroupInfo, Error> {
        let request = v1::GetGroupRequest { name: name.to_owned() };
        let answer = self.client.group_calls().get_group(request).await;
        let answer = answer.map_err(|status| Error::from_status(&format!("look up group {name}"), &status))?;
        self.whole(answer.into_inner().group).await
    }

    /// A group with all its cursors: large ones come in pages.
    async fn whole(&self, wire: Option<v1::Group>) -> Result<GroupInfo, Error> {
        let has_more = wire.as_ref().is_some_and(|group| group.has_more_cursors);
        let mut group = GroupInfo::from_wire(wire)?;
        if has_more {
            group.hold(self.cursors(&group.name).await?);
        }
        Ok(group)
    }

    async fn cursors(&self, group: &str) -> Result<Vec<v1::Cursor>, Error> {
        let (mut cursors, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListCursorsRequest {
                group: group.to_owned(),
                page_size: CURSORS_PAGE,
                page_token: page_token.clone(),
            };
            let answer = self.client.group_calls().list_cursors(request).await;
            let context = format!("list cursors of group {group}");
            let page = answer.map_err(|status| Error::from_status(&context, &status))?.into_inner();
            cursors.extend(page.cursors);
            page_token = next_page(&page_token, page.next_page_token)?;
            if page_token.is_empty() {
                return Ok(cursors);
            }
        }
    }

    /// Every group by name, with members and cursors; only those that read
    /// `topic` when there is one.
    pub async fn list(&self, topic: Option<&str>) -> Result<Vec<GroupInfo>, Error> {
        let topic = topic.unwrap_or_default().to_owned();
        let (mut groups, mut page_token) = (Vec::new(), String::new());
        loop {
            let request =
                v1::ListGroupsRequest { page_size: PAGE, page_token: page_token.clone(), topic: topic.clone() };
            let answer = self.client.group_calls().list_groups(request).await;
            let page = answer.map_err(|status| Error::from_status("list groups", &status))?.into_inner();
            for group in page.groups {
                groups.push(self.whole(Some(group)).await?);
            }
            page_token = next_page(&page_token, page.next_page_token)?;
            if page_token.is_empty() {
                return Ok(groups);
            }
        }
    }

    /// Stops sending records to the group's members, until it is resumed. They
    /// keep what they hold.
    ///
    /// **Errors**: `NotFound`.
    pub async fn pause(&self, name: &str, reason: impl Into<String>) -> Result<GroupInfo, Error> {
        let request = v1::UpdateGroupRequest {
            name: name.to_owned(),
            paused: Some(true),
            pause_reason: reason.into(),
            ..v1::UpdateGroupRequest::default()
        };
        self.change(&format!("pause group {name}"), request).await
    }

    /// Lets a paused group go on. One that is not paused stays as it is.
    ///
    /// **Errors**: `NotFound`.
    pub async fn resume(&self, name: &str) -> Result<GroupInfo, Error> {
        let request =
            v1::UpdateGroupRequest { name: name.to_owned(), paused: Some(false), ..v1::UpdateGroupRequest::default() };
        self.change(&format!("resume group {name}"), request).await
    }

    /// Changes a group's settings.
    ///
    /// **Errors**: `NotFound`; `Conflict` (`GROUP_CHANGED`) when its etag is
    /// another one by now.
    pub async fn update(&self, name: &str, update: GroupUpdate) -> Result<GroupInfo, Error> {
        self.change(&format!("change group {name}"), update.into_wire(name)).await
    }

    async fn change(&self, context: &str, request: v1::UpdateGroupRequest) -> Result<GroupInfo, Error> {
        let answer = self.client.group_calls().update_group(request).await;
        let answer = answer.map_err(|status| Error::from_status(context, &status))?;
        self.whole(answer.into_inner().group).await
    }

    /// Deletes a group with its cursors: where it stood is forgotten.
    ///
    /// **Errors**: `NotFound`; `Conflict` (`GROUP_HAS_MEMBERS`) when it has
    /// members and `with_members` is not set.
    pub async fn delete(&self, name: &str, with_members: bool) -> Result<(), Error> {
        let request = v1::DeleteGroupRequest { name: name.to_owned(), with_members };
        let answer = self.client.group_calls().delete_group(request).await;
        answer.map(drop).map_err(|status| Error::from_status(&format!("delete group {name}"), &status))
    }

    /// Sets cursors, also backwards, and says how far each went. Whoever held
    /// one of these partitions is fenced.
    ///
    /// **Errors**: `NotFound`; `InvalidInput` (`START_REQUIRED`) when the group
    /// does not read the topic; `Conflict` (`GROUP_HAS_MEMBERS`) when a member
    /// holds a partition and [`SetCursors::with_members`] is not set;
    /// `OutOfRange` for a place that is not in the log.
    pub async fn set_cursors(&self, group: &str, set: SetCursors) -> Result<Vec<CursorMove>, Error> {
        let answer = self.client.group_calls().set_cursors(set.into_wire(group)).await;
        let answer = answer.map_err(|status| Error::from_status(&format!("set cursors of group {group}"), &status))?;
        Ok(answer.into_inner().moves.into_iter().map(CursorMove::from_wire).collect())
    }

    /// Moves cursors forward, all or none, and says where they are. To move them
    /// together with records, see [`crate::Append::commit_cursor`].
    ///
    /// **Errors**: `Conflict` (`EXPECTED_OFFSET_MISMATCH`, with `actual`) when a
    /// cursor of a manual group is not where it was expected, (`CURSOR_BACKWARDS`,
    /// `CURSOR_BEYOND_END`) when one cannot go there; `Fenced`
    /// (`ASSIGNMENT_FENCED`) when a partition is not held under that epoch any
    /// more. Without an answer it may have been done: a second try under the same
    /// expected offset tells.
    pub async fn commit_cursors(
        &self,
        commits: impl IntoIterator<Item = CursorCommit>,
    ) -> Result<Vec<CursorInfo>, Error> {
        let commits: Vec<_> = commits.into_iter().map(CursorCommit::into_wire).collect();
        let context = commit_context(commits.first());
        let answer = self.client.group_calls().commit_cursors(v1::CommitCursorsRequest { commits }).await;
        let answer = answer.map_err(|status| Error::from_status(&context, &status))?;
        Ok(answer.into_inner().cursors.into_iter().map(CursorInfo::from_wire).collect())
    }

    /// Why a group does or does not move, in words.
    ///
    /// **Errors**: `NotFound`; `Unsupported` when the server is too old to know.
    pub async fn explain(&self, name: &str) -> Result<GroupExplanation, Error> {
        let request = v1::ExplainGroupRequest { group: name.to_owned() };
        let answer = self.client.group_calls().explain_group(request).await;
        let answer = answer.map_err(|status| Error::from_status(&format!("explain group {name}"), &status))?;
        Ok(GroupExplanation::from_wire(answer.into_inner()))
    }
}

/// What was attempted when cursors were to be moved.
pub(crate) fn commit_context(first: Option<&v1::CursorCommit>) -> String {
    format!("commit cursors of group {}", first.map_or("", |commit| &commit.group))
}

#[cfg(test)]
mod tests;
