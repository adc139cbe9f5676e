//! `tillroll saga`: services, gateway, proof and timeline as processes of their own.

use serde_json::Value;
use tillroll_client::saga::payload::group;

use crate::stage::Stage;

/// A few invoices of the file, with a return.
pub(crate) const SHOP: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,A,one,3,2011-01-01 08:00:00,1.50,7,France
1,POST,postage,1,2011-01-01 08:00:00,4.00,7,France
2,A,one,2,2011-01-01 08:01:00,1.50,8,France
2,B,two,5,2011-01-01 08:01:00,0.25,8,France
3,B,two,1,2011-01-01 08:02:00,0.25,9,Spain
C4,A,one,-1,2011-01-01 12:00:00,1.50,7,France
5,B,two,40,2011-01-01 12:01:00,0.25,9,Spain
C6,B,two,-2,2011-01-01 14:00:00,0.25,8,France
";

#[test]
fn the_story_of_an_order_is_told_and_a_damaged_proof_fails() {
    let mut stage = Stage::set(SHOP, "{}", "60s");
    for service in group::ALL {
        stage.start(&format!("{service}-0"), None);
    }
    stage.play_all();
    stage.prove(stage.shop.orders.len());
    let story = stage.shell.ok("tillroll saga timeline 1");
    let told = ["OrderPlaced", "PaymentAuthorized", "InventoryReserved", "OrderConfirmed", "RefundProcessed"];
    assert!(told.iter().all(|event| story.contains(event)), "{story}");
    let story: Value = serde_json::from_str(&stage.shell.ok("tillroll saga timeline 1 -o json")).expect("an object");
    assert_eq!(story["moments"][0]["event"], "OrderPlaced");
    assert_eq!(stage.shell.run("tillroll saga timeline nobody").code, 3);
    // A charge that no event knows: the ledger says more than the log.
    stage.shell.ok(
        "tillroll append payments --key 1 --value '{\"amount\":1,\"key\":null}' -q && tillroll read payments -n 1 -q",
    );
    let line = format!("tillroll saga check --gateway {} -o json", stage.gateway.address);
    let said = stage.shell.run(&line);
    assert_eq!(said.code, 1, "{said:?}");
    let verdict: Value = serde_json::from_str(&said.stdout).expect("an object");
    assert_eq!(verdict["holds"], false, "{verdict}");
}
