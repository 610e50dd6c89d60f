"""Drives what sessions of roles are made with: everything that AssumeRole takes, and an identity provider's token."""

import base64
import json

ISSUER = "https://token.contract.example"


def token(account_time):
    """As an identity provider makes it, save for the signature."""
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    claims = {"iss": ISSUER, "aud": "sts.amazonaws.com", "sub": "contract", "exp": account_time}
    return ".".join([part({"alg": "RS256"}), part(claims), "c2ln"])


def drive(account, refused):
    iam, sts = account.client("iam"), account.client("sts")
    provider = iam.create_open_id_connect_provider(
        Url=ISSUER, ClientIDList=["sts.amazonaws.com"], ThumbprintList=["0" * 40])["OpenIDConnectProviderArn"]
    trust = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
         "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]},
        {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity"}]})
    policy = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]})
    role = iam.create_role(RoleName="session", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    account.advance(11)
    session = dict(RoleArn=role, RoleSessionName="contract", DurationSeconds=900, Policy=policy)
    sts.assume_role(ExternalId="4711", SourceIdentity="anna", Tags=[{"Key": "team", "Value": "sre"}],
                    TransitiveTagKeys=["team"], **session)
    refused("AccessDenied", sts.assume_role, RoleArn=role + "-not", RoleSessionName="contract")
    good = token(4_000_000_000)
    sts.assume_role_with_web_identity(WebIdentityToken=good, **session)
    refused("ExpiredTokenException", sts.assume_role_with_web_identity, WebIdentityToken=token(1), **session)
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider)
    refused("InvalidIdentityToken", sts.assume_role_with_web_identity, WebIdentityToken=good, **session)
    iam.delete_role(RoleName="session")
