// oauth4webapi as a client and as a resource server. It holds every answer against the RFCs by itself.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'

const { COUNTERFOIL, CLIENT_ID, CLIENT_SECRET } = process.env
const plain = { [oauth.allowInsecureRequests]: true } // the tests speak no TLS
const client = { client_id: CLIENT_ID }

const issuer = new URL(COUNTERFOIL)
const found = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...plain })
const server = await oauth.processDiscoveryResponse(issuer, found)

const refused = (code, answer) => assert.rejects(answer, { error: code })

for (const show of [oauth.ClientSecretBasic(CLIENT_SECRET), oauth.ClientSecretPost(CLIENT_SECRET)]) {
  const get = async (scope) => {
    const answer = await oauth.clientCredentialsGrantRequest(server, client, show, { scope }, plain)
    return oauth.processClientCredentialsResponse(server, client, answer)
  }
  const refresh = async (token) => {
    const answer = await oauth.refreshTokenGrantRequest(server, client, show, token, plain)
    return oauth.processRefreshTokenResponse(server, client, answer)
  }
  const ask = async (token) => {
    const answer = await oauth.introspectionRequest(server, client, show, token, plain)
    return oauth.processIntrospectionResponse(server, client, answer)
  }
  const revoke = async (token) =>
    oauth.processRevocationResponse(await oauth.revocationRequest(server, client, show, token, plain))

  const own = await get('notes:read tokens:issue')
  assert.equal(own.scope, 'notes:read tokens:issue')
  const issue = await oauth.protectedResourceRequest(
    own.access_token, 'POST', new URL('/tokens', issuer), new Headers({ 'content-type': 'application/json' }),
    JSON.stringify({ subject: 'alice', scope: 'cart:read' }), plain)
  assert.equal(issue.status, 201)
  const pair = await issue.json()

  // A token by RFC 9068: `typ`, `iss`, `aud`, times, `sub`, `client_id`, `jti`, and the signature by the published keys.
  const verify = (token, audience) => {
    const request = new Request('http://api.example/', { headers: { authorization: `Bearer ${token}` } })
    return oauth.validateJwtAccessToken(server, request, audience, plain)
  }
  const claims = await verify(pair.access_token, COUNTERFOIL)
  assert.deepEqual([claims.sub, claims.client_id, claims.scope], ['alice', CLIENT_ID, 'cart:read'])
  await assert.rejects(verify(pair.refresh_token, COUNTERFOIL))
  await assert.rejects(verify(pair.access_token, 'https://other.example'))

  const told = await ask(pair.access_token)
  assert.deepEqual([told.active, told.username, told.jti], [true, 'alice', claims.jti])

  // The same, signed for whoever asks for that (RFC 9701).
  const picky = { ...client, introspection_signed_response_alg: 'EdDSA' }
  const answer = await oauth.introspectionRequest(server, picky, show, pair.access_token, plain)
  assert.deepEqual(await oauth.processIntrospectionResponse(server, picky, answer), told)
  await oauth.validateApplicationLevelSignature(server, answer, plain)

  const next = await refresh(pair.refresh_token)
  assert.notEqual(next.refresh_token, pair.refresh_token)
  await revoke(next.refresh_token)
  assert.deepEqual(await ask(next.access_token), { active: false })
  await refused('invalid_grant', refresh(next.refresh_token))

  await revoke(own.access_token)
  await revoke('never issued')
  assert.deepEqual(await ask(own.access_token), { active: false })
  await refused('invalid_scope', get('registry:admin'))
}
console.log('done')
