//! What `--help` teaches.

pub(crate) const AFTER: &str = "\
START
  aws-sim                          EC2 on 127.0.0.1:4567: one VPC, two subnets, one instance
  aws-sim --world my-vpc.toml      a world of your own; `aws-sim world --example` prints one to begin with
  Then paste the `export` lines that it prints into another shell. Ctrl-C ends it.

CLIENTS, with those variables set
  aws ec2 describe-network-interfaces
  aws ec2 create-network-interface --subnet-id subnet-... --ipv4-prefix-count 1
  boto3       boto3.client('ec2')
  curl        curl --aws-sigv4 aws:amz:us-east-1:ec2 --user any:any $AWS_ENDPOINT_URL_EC2 \\
                -d 'Action=DescribeSubnets&Version=2016-11-15'
  Terraform   provider \"aws\" {
                skip_credentials_validation = true
                skip_requesting_account_id  = true
                skip_metadata_api_check     = true
                endpoints { ec2 = \"http://127.0.0.1:4567\" }
              }
  An access key of twelve digits is the administrator of that account.

METADATA
  Each instance has an IMDS on a port of its own, printed at the start. For a client on that instance:
    export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:PORT
    IMDS=$AWS_EC2_METADATA_SERVICE_ENDPOINT/latest
    TOKEN=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $IMDS/api/token)
    curl -H \"X-aws-ec2-metadata-token: $TOKEN\" $IMDS/meta-data/mac
  Requests that are signed with the credentials found there come from that instance.

LOOKING INSIDE, and making things go wrong
  curl $AWS_ENDPOINT_URL_EC2/_sim/world     what there is, and when something changes next
  curl $AWS_ENDPOINT_URL_EC2/_sim/calls     every request, what it got, and what it cost
  curl $AWS_SIM_CONTROL                     the control port explains itself: faults, events, time, reset

STORIES
  aws-sim replay FILE...                    plays faults and events against scripted calls, in virtual time";

pub(crate) const AFTER_REPLAY: &str = "\
A STORY is a world file with [[step]]s:

  title = \"A node creates an ENI, and a reset hides that it did\"
  [[vpc]]
  name = \"vpc\"
  cidrs = [\"10.0.0.0/16\"]
  [[subnet]]
  name = \"pods\"
  zone = \"a\"
  cidr = \"10.0.0.0/24\"
  [[instance]]
  name = \"node\"
  type = \"m5.large\"
  subnet = \"pods\"

  [[fault]]
  action = \"CreateNetworkInterface\"
  when = { nth = 1 }
  effect = \"reset-after\"

  [[step]]
  as = \"node\"                                # or an account; without it, an administrator
  call = \"CreateNetworkInterface\"
  with = { SubnetId = \"$pods\", Description = \"mine\" }
  expect = \"(reset)\"                         # ok, an error code, (timeout), (truncated)

  [[step]]
  as = \"node\"
  call = \"DescribeNetworkInterfaces\"
  with = { \"Filter.1.Name\" = \"description\", \"Filter.1.Value.1\" = \"mine\" }
  has = { status = \"available\" }             # also lacks, and count = { networkInterfaceId = 1 }
  save = { eni = \"networkInterfaceId\" }      # $eni from here on
  until = \"10s\"                              # try again each second, so long

  [[step]]
  wait = \"5s\"

  [[step]]
  event = { delete-eni = { eni = \"$eni\" } }  # what others do

  [[step]]
  as = \"node\"
  imds = \"meta-data/network/interfaces/macs/${node.mac}/local-ipv4s\"
  shows = [\"${node.address}\"]                # lines that are there; hides: that are not";
