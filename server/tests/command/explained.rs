//! `tillroll group explain`: what a broker finds about a group, as people and programs are told it, and what the no of
//! a broker that finds nothing looks like.
//!
//! Method: the answers come from a stand-in for the group service, beside the real ones.

use serde_json::{Value, json};
use tillroll_proto::{raw::group_service_server::GroupService, v1};
use tokio_stream::Empty;
use tonic::{Request, Response, Status, Streaming};

use crate::{inside::Inside, shell::Shell};

/// Knows why a group stands still; of one that is called `unknown` it knows nothing.
struct Known;

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in the stand-in"))
}

#[tonic::async_trait]
impl GroupService for Known {
    type ConsumeStream = Empty<Result<v1::ConsumeResponse, Status>>;

    async fn explain_group(
        &self,
        request: Request<v1::ExplainGroupRequest>,
    ) -> Result<Response<v1::ExplainGroupResponse>, Status> {
        let group = request.into_inner().group;
        if group == "unknown" {
            return not_served();
        }
        let finding = |reason: &str, topic: &str, partition, text: &str, next_step: &str| v1::Finding {
            reason: reason.into(),
            topic: topic.into(),
            partition,
            text: text.into(),
            next_step: next_step.into(),
        };
        let resume = format!("tillroll group resume {group}");
        let findings = vec![
            finding("PAUSED", "", None, "paused by an operator: the gateway is down", &resume),
            finding("BELOW_HEAD", "orders", Some(3), "the cursor is at 4, the head at 9", "set the cursor"),
            finding("CAUGHT_UP", "payments", None, "nothing is waiting", ""),
        ];
        Ok(Response::new(v1::ExplainGroupResponse { summary: format!("group {group} is paused"), findings }))
    }

    async fn create_group(
        &self,
        _: Request<v1::CreateGroupRequest>,
    ) -> Result<Response<v1::CreateGroupResponse>, Status> {
        not_served()
    }

    async fn get_group(&self, _: Request<v1::GetGroupRequest>) -> Result<Response<v1::GetGroupResponse>, Status> {
        not_served()
    }

    async fn list_cursors(
        &self,
        _: Request<v1::ListCursorsRequest>,
    ) -> Result<Response<v1::ListCursorsResponse>, Status> {
        not_served()
    }

    async fn list_groups(&self, _: Request<v1::ListGroupsRequest>) -> Result<Response<v1::ListGroupsResponse>, Status> {
        not_served()
    }

    async fn update_group(
        &self,
        _: Request<v1::UpdateGroupRequest>,
    ) -> Result<Response<v1::UpdateGroupResponse>, Status> {
        not_served()
    }

    async fn delete_group(
        &self,
        _: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        not_served()
    }

    async fn set_cursors(&self, _: Request<v1::SetCursorsRequest>) -> Result<Response<v1::SetCursorsResponse>, Status> {
        not_served()
    }

    async fn commit_cursors(
        &self,
        _: Request<v1::CommitCursorsRequest>,
    ) -> Result<Response<v1::CommitCursorsResponse>, Status> {
        not_served()
    }

    async fn consume(
        &self,
        _: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        not_served()
    }
}

#[test]
fn findings_are_told_one_by_one_with_what_to_do() {
    let (shell, broker) = (Shell::new(), Inside::with_groups(Known));
    let explain = format!("tillroll group explain mailer --server http://{}", broker.address);
    let expected = "group mailer is paused

PAUSED: paused by an operator: the gateway is down
  next: tillroll group resume mailer

BELOW_HEAD orders/3: the cursor is at 4, the head at 9
  next: set the cursor

CAUGHT_UP payments: nothing is waiting
";
    assert_eq!(shell.ok(&explain), expected);
    let object: Value = serde_json::from_str(&shell.ok(&format!("{explain} -o json"))).expect("one document");
    assert_eq!((&object["group"], &object["summary"]), (&json!("mailer"), &json!("group mailer is paused")));
    let below = json!({
        "reason": "BELOW_HEAD", "topic": "orders", "partition": 3, "text": "the cursor is at 4, the head at 9",
        "next_step": "set the cursor",
    });
    assert_eq!(object["findings"][1], below);
    assert_eq!((&object["findings"][0]["topic"], &object["findings"][0]["partition"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_broker_that_does_not_explain_is_told_of_with_what_to_look_at_instead() {
    let (shell, broker) = (Shell::new(), Inside::with_groups(Known));
    let said = shell.run(&format!("tillroll group explain unknown --server http://{}", broker.address));
    assert_eq!((said.code, said.stdout.as_str()), (4, ""), "{said:?}");
    let expected = "error: explain group unknown: not in the stand-in\n\
                    hint: members, cursors and lag are shown by: tillroll group describe unknown\n";
    assert_eq!(said.stderr, expected);
}
