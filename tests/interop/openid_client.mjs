// openid-client, told nothing but the issuer, the id and the secret.

import assert from 'node:assert/strict'
import * as client from 'openid-client'

const { COUNTERFOIL, CLIENT_ID, CLIENT_SECRET } = process.env
const issuer = new URL(COUNTERFOIL)
const options = { algorithm: 'oauth2', execute: [client.allowInsecureRequests] } // the tests speak no TLS
const find = (show) => client.discovery(issuer, CLIENT_ID, undefined, show, options)
const refused = (code, answer) => assert.rejects(answer, { error: code })

for (const show of [client.ClientSecretBasic(CLIENT_SECRET), client.ClientSecretPost(CLIENT_SECRET)]) {
  const config = await find(show)
  const own = await client.clientCredentialsGrant(config, { scope: 'tokens:issue' })
  assert.equal(own.expiresIn() > 0, true)
  const answer = await client.fetchProtectedResource(
    config, own.access_token, new URL('/tokens', issuer), 'POST',
    JSON.stringify({ subject: 'alice', scope: 'cart:read cart:write' }), new Headers({ 'content-type': 'application/json' }))
  const pair = await answer.json()

  const narrow = await client.refreshTokenGrant(config, pair.refresh_token, { scope: 'cart:read' })
  assert.equal(narrow.scope, 'cart:read')
  await refused('invalid_scope', client.refreshTokenGrant(config, narrow.refresh_token, { scope: 'cart:delete' }))
  const told = await client.tokenIntrospection(config, narrow.access_token)
  assert.deepEqual([told.active, told.sub, told.scope, told.type], [true, 'alice', 'cart:read', 'access'])

  await client.tokenRevocation(config, narrow.access_token)
  assert.deepEqual(await client.tokenIntrospection(config, narrow.access_token), { active: false })
  assert.equal((await client.tokenIntrospection(config, narrow.refresh_token)).active, true)
  await client.tokenRevocation(config, narrow.refresh_token)
  await refused('invalid_grant', client.refreshTokenGrant(config, narrow.refresh_token))
}
const stranger = await find(client.ClientSecretBasic('wrong'))
await assert.rejects(client.clientCredentialsGrant(stranger), { status: 401, code: 'OAUTH_WWW_AUTHENTICATE_CHALLENGE' })
console.log('done')
