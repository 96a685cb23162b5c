"""Secrets whose shape gives them away wherever they stand: a table of the issuers' formats."""

import re

from model.redact.marks import BOUNDARY, MASK, WRITTEN_BREAK

#: Prefixes that no other word has: no boundary is needed in front.
_DISTINCT = (
    r"gh[pousr]_[A-Za-z0-9_]{16,}",  # GitHub
    r"github_pat_\w{16,}",
    r"gl(?:pat|dt|ft|soat|rtr?|cbt|imt|ptt|agent|oas|ffct|wt)-[\w.=-]{16,}",  # GitLab
    r"GR1348941[\w-]{16,}",
    r"_gitlab_session=\w{16,}",
    r"ATBB[A-Za-z0-9]{32,}",  # Bitbucket
    r"ATATT3x[A-Za-z0-9_=-]{20,}",  # Atlassian
    r"xox[a-z]-[\w-]{10,}",  # Slack
    r"xoxe\.xox[a-z]-[\w-]{10,}",
    r"xapp-\d-[\w-]{10,}",
    r"[rs]k_(?:live|test|prod)_[A-Za-z0-9]{10,}",  # Stripe
    r"whsec_[A-Za-z0-9+/=]{16,}",
    r"shp(?:at|ca|pa|ss|ua)_[A-Za-z0-9]{16,}",  # Shopify
    r"sq0[a-z]{3}-[\w-]{20,}",  # Square
    r"access_token\$(?:production|sandbox)\$[a-z0-9]{10,}\$[a-f0-9]{20,}",  # Braintree
    r"npm_[A-Za-z0-9]{30,}",
    r"pypi-[\w-]{30,}",
    r"dckr_(?:pat|oat)_[\w-]{16,}",  # Docker
    r"AIza[\w-]{30,}",  # Google
    r"ya29\.[\w.-]{16,}",
    r"GOCSPX-[\w-]{16,}",
    r"eyJ[\w=-]{12,}(?:\.[\w.+/=-]*)?",  # JWT, and JSON in base64
    r"do[opr]_v1_[a-f0-9]{32,}",  # DigitalOcean
    r"hv[sbr]\.[\w-]{20,}",  # Vault
    r"dp\.(?:pt|st|sa|ct|scim|audit)\.[\w.-]{30,}",  # Doppler
    r"glsa_[A-Za-z0-9]{20,}+_[A-Fa-f0-9]{8}",  # Grafana
    r"glc_[A-Za-z0-9+/=]{20,}",
    r"NR(?:AK|JS|II|RA|IQ)-[\w-]{16,}",  # New Relic
    r"sntry[su]_[\w=+/.-]{30,}",  # Sentry
    r"lin_(?:api|oauth)_[A-Za-z0-9]{30,}",  # Linear
    r"PMAK-[a-f0-9]{20,}-[a-f0-9]{30,}",  # Postman
    r"nf[pcobu]_[A-Za-z0-9]{30,}",  # Netlify
    r"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Za-z]{40,}",
    r"cmVmdGtu[A-Za-z0-9+/=]{30,}",  # Artifactory
    r"SG\.[\w-]{16,}\.[\w-]{16,}",  # SendGrid
    r"xkeysib-[a-f0-9]{40,}-[A-Za-z0-9]{10,}",  # Brevo
    r"pscale_(?:tkn|oauth|pw)_[\w.=-]{30,}",  # PlanetScale
    r"rubygems_[a-f0-9]{40,}",
    r"secret_[A-Za-z0-9]{40,}",  # Notion
    r"ntn_[A-Za-z0-9]{40,}",
    r"pul-[a-f0-9]{40}",  # Pulumi
    r"figd_[\w-]{30,}",  # Figma
    r"EAA[A-Za-z0-9]{80,}",  # Meta
)
#: Short prefixes that could be the end of a word: only after a boundary.
_AFTER_BOUNDARY = (
    r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|ANPA|A3T[A-Z0-9])[A-Z0-9]{16}",  # AWS
    r"bedrock-api-key-[A-Za-z0-9+/=]{30,}",
    r"ABSK[A-Za-z0-9+/=]{60,}",
    r"sk-(?:ant|proj|svcacct|admin|or)-[\w-]{16,}",  # Anthropic, OpenAI, OpenRouter
    r"sk-(?=[A-Za-z_-]{0,60}[0-9])[\w-]{20,}",
    r"gsk_[A-Za-z0-9]{30,}",  # Groq
    r"xai-[A-Za-z0-9]{40,}",
    r"pplx-[A-Za-z0-9]{30,}",
    r"r8_[A-Za-z0-9]{30,}",  # Replicate
    r"nvapi-[\w-]{30,}",
    r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}",
    r"(?:SK|AC)[a-f0-9]{32}",  # Twilio
    r"key-[a-z0-9]{32}",  # Mailgun
    r"[0-9a-z]{32}-us[0-9]{1,2}",  # Mailchimp
    r"dapi[a-f0-9]{32}(?:-\d)?",  # Databricks
    r"dose[a-f0-9]{32}",
    r"s\.(?=[A-Za-z]{0,23}[0-9])[A-Za-z0-9]{24}(?![A-Za-z0-9_-])",  # Vault, before 1.10
    r"AKC[A-Za-z0-9]{10,}",  # Artifactory
    r"AP[0-9A-F](?=[A-Za-z]*[0-9])(?=[A-Z0-9]*[a-z])[A-Za-z0-9]{30,}",
    r"sgp_(?:[a-f0-9]{16}_|local_)?[a-f0-9]{40}",  # Sourcegraph
    r"cio[a-zA-Z0-9]{32}(?![A-Za-z0-9])",  # crates.io
    r"EAAA[\w-]{60}",  # Square
    r"tk-us-[\w-]{48}",
    r"CCIP(?:AT|RJ)_[A-Za-z0-9]{20,}_[a-f0-9]{40}",  # CircleCI
    r"bkua_[a-z0-9]{40}",  # Buildkite
    r"sonar-[A-Za-z0-9]{30,}|sq[aup]_[a-f0-9]{40}",  # SonarQube
    r"HRKU-[\w-]{36,}",  # Heroku
    r"phc_[A-Za-z0-9]{40,}|phx_[A-Za-z0-9]{40,}",  # PostHog
    r"tfp_[A-Za-z0-9_]{50,}",
    r"vc[pkair]_[A-Za-z0-9]{40,}",  # Vercel
    r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{20,}",  # Resend
    r"sbp_[a-f0-9]{40}|sb_secret_[\w-]{20,}",  # Supabase
    r"dt0[a-z]\d{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}",  # Dynatrace
    r"[MNO][A-Za-z0-9_-]{23,27}\.[\w-]{6,7}\.[\w-]{27,40}",  # Discord bots
    r"(?:hf|api_org)_[A-Za-z0-9]{30,}",  # Hugging Face
    r"fo1_[\w-]{30,}",  # Fly
    r"fm[12][ar]?_[A-Za-z0-9+/=_-]{40,}",
    r"A{20,}+%[A-Za-z0-9%]{50,}",  # Twitter
    r"sl\.(?:u\.)?[\w-]{100,}",  # Dropbox
    r"\d{8,10}:[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",  # Telegram
)
#: What stands in front of the telling part: looked for only where that part is.
_BY_THEIR_MIDDLE = {
    "Q~": re.compile(r"[\w~.-]{3}\dQ~[\w~.-]{31,34}"),  # Azure client secrets
    ".atlasv1.": re.compile(r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{40,}"),  # Terraform Cloud
}
# No alternative can fail after an unbounded run that another attempt could begin in: the time stays linear.
_ANYWHERE = re.compile("|".join(_DISTINCT))
# The look ahead at the length of the shortest form spares most words the alternatives.
_WORD = rf"(?=[\w.:%-]{{13}})(?:{'|'.join(_AFTER_BOUNDARY)})[A-Za-z0-9]*+"
_WORDS = re.compile(BOUNDARY + _WORD)
_WORDS_AFTER_BREAK = re.compile(WRITTEN_BREAK + _WORD)


def mask_tokens(text: str) -> str:
    """`text` with every token of a known shape masked."""
    for middle, shape in _BY_THEIR_MIDDLE.items():
        if middle in text:
            text = shape.sub(MASK, text)
    text = _WORDS.sub(MASK, _ANYWHERE.sub(MASK, text))
    return _WORDS_AFTER_BREAK.sub(MASK, text) if "\\" in text else text
