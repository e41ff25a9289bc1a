//! CreateTags and DeleteTags.

use aws_sdk_ec2::types::Tag;

use crate::check::{Check, MustFail as _, Outcome, check, same};
use crate::ec2::{Ec2, NO_ENI, tag};

/// An ENI with the tags a=1 and b=2.
async fn eni_with_tags(ec2: &Ec2) -> Outcome<String> {
    let place = ec2.place().await?;
    let eni = ec2.eni(&place.subnet).await?;
    let asked = ec2
        .sdk
        .create_tags()
        .resources(&eni)
        .tags(tag("a", "1"))
        .tags(tag("b", "2"));
    asked.send().await?;
    Ok(eni)
}

async fn tags_of(ec2: &Ec2, eni: &str) -> Outcome<Vec<(String, String)>> {
    let found = ec2.described(eni).await?;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let mut tags: Vec<_> = found
        .tag_set()
        .iter()
        .map(|tag| (text(tag.key()), text(tag.value())))
        .collect();
    tags.sort_unstable();
    Ok(tags)
}

fn pairs(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

pub(crate) fn table() -> Vec<Check> {
    vec![
        check!(
            "CreateTags",
            "Tags are on the ENI.",
            "D API_CreateTags",
            |ec2| {
                let eni = eni_with_tags(ec2).await?;
                same(
                    "tags",
                    tags_of(ec2, &eni).await?,
                    pairs(&[("a", "1"), ("b", "2")]),
                )?;
            }
        ),
        check!(
            "DeleteTags",
            "A tag without a value is deleted whatever its value.",
            "D API_DeleteTags",
            |ec2| {
                let eni = eni_with_tags(ec2).await?;
                let any = Tag::builder().key("a").build();
                ec2.sdk
                    .delete_tags()
                    .resources(&eni)
                    .tags(any)
                    .send()
                    .await?;
                same("tags", tags_of(ec2, &eni).await?, pairs(&[("b", "2")]))?;
            }
        ),
        check!(
            "DeleteTags.value mismatch keeps",
            "A tag with another value than the one named stays.",
            "D API_DeleteTags",
            |ec2| {
                let eni = eni_with_tags(ec2).await?;
                ec2.sdk
                    .delete_tags()
                    .resources(&eni)
                    .tags(tag("b", "3"))
                    .send()
                    .await?;
                same(
                    "tags",
                    tags_of(ec2, &eni).await?,
                    pairs(&[("a", "1"), ("b", "2")]),
                )?;
            }
        ),
        check!(
            "CreateTags.notfound",
            "What is not there can't be tagged.",
            "C terraform and amazon-vpc-cni-k8s retry on it",
            |ec2| {
                let asked = ec2
                    .sdk
                    .create_tags()
                    .resources(NO_ENI)
                    .tags(tag("a", "1"))
                    .send()
                    .await;
                asked.refused(&["InvalidNetworkInterfaceID.NotFound", "InvalidID"])?;
            }
        ),
        check!(
            "CreateTags.aws: prefix",
            "Keys that begin with aws: are EC2's own.",
            "D Tag restrictions; I the text in two emulators that were compared with AWS",
            |ec2| {
                let eni = eni_with_tags(ec2).await?;
                let asked = ec2
                    .sdk
                    .create_tags()
                    .resources(&eni)
                    .tags(tag("aws:x", "1"))
                    .send()
                    .await;
                let text = "Tag keys starting with 'aws:' are reserved for internal use";
                asked.refused_with("InvalidParameterValue", text)?;
                same("tags", tags_of(ec2, &eni).await?.len(), 2)?;
            }
        ),
        check!(
            "CreateTags.>50",
            "A resource has at most 50 tags.",
            "D Tag restrictions, Error codes",
            |ec2| {
                let eni = eni_with_tags(ec2).await?;
                let mut asked = ec2.sdk.create_tags().resources(&eni);
                for number in 0..49 {
                    asked = asked.tags(tag(&format!("n{number}"), ""));
                }
                asked.send().await.refused(&["TagLimitExceeded"])?;
                same("tags", tags_of(ec2, &eni).await?.len(), 2)?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "CreateTags.overwrites",
            "A key that is there gets the new value.",
            "D API_CreateTags",
            |ec2| {
                let eni = eni_with_tags(ec2).await?;
                ec2.sdk
                    .create_tags()
                    .resources(&eni)
                    .tags(tag("a", "9"))
                    .send()
                    .await?;
                same(
                    "tags",
                    tags_of(ec2, &eni).await?,
                    pairs(&[("a", "9"), ("b", "2")]),
                )?;
            }
        ),
        check!(
            "CreateTags.all or nothing",
            "When one of two resources is not there, neither is tagged.",
            "R",
            |ec2| {
                let eni = eni_with_tags(ec2).await?;
                let asked = ec2
                    .sdk
                    .create_tags()
                    .resources(&eni)
                    .resources(NO_ENI)
                    .tags(tag("c", "3"));
                asked.send().await.refusal()?;
                same("tags", tags_of(ec2, &eni).await?.len(), 2)?;
            }
        ),
        check!(
            "CreateTags.what is no id",
            "What is no id of any kind is refused as such.",
            "I quoted in logs",
            |ec2| {
                let asked = ec2
                    .sdk
                    .create_tags()
                    .resources("not-an-id")
                    .tags(tag("a", "1"))
                    .send()
                    .await;
                asked.refused_with("InvalidID", "The ID 'not-an-id' is not valid")?;
            }
        ),
    ]
}
