#include "libpgraft/state/kv_store.h"

#include <gtest/gtest.h>

#include "libpgraft/state/state_machine.h"

namespace pgraft::state {
namespace {

KvStore copy_by_snapshot(const KvStore& store) {
  Writer out(1);
  store.write(out);
  const std::string bytes = out.take();
  Reader in(bytes, 1, "a copy");
  KvStore copy = KvStore::read(in);
  EXPECT_TRUE(in.finish());
  return copy;
}

TEST(KvStore, RevisionsTellWhenAKeyWasMadeAndChanged) {
  KvStore store;
  EXPECT_TRUE(store.apply(KvPut{"k", "1"}, 10).changed);
  EXPECT_TRUE(store.apply(KvPut{"k", "2"}, 12).changed);
  EXPECT_EQ(*store.find("k"), (KvItem{"2", 10, 12, 0}));
  EXPECT_EQ(store.revision(), 12u);
  EXPECT_TRUE(store.apply(KvDelete{"k"}, 13).changed);
  EXPECT_EQ(store.find("k"), nullptr);
  EXPECT_EQ(store.revision(), 13u);
  EXPECT_FALSE(store.apply(KvDelete{"k"}, 14).changed);
  EXPECT_EQ(store.revision(), 13u) << "what changes nothing makes no revision";
  EXPECT_TRUE(store.apply(KvPut{"k", "3"}, 15).changed);
  EXPECT_EQ(*store.find("k"), (KvItem{"3", 15, 15, 0}));
}

TEST(KvStore, CompareAndSetHasNoEffectUnlessTheKeyIsAsExpected) {
  const struct {
    const char* name;
    bool there;
    KvCompareAndSet op;
    bool changed;
  } cases[] = {
      {"same revision", true, {"k", 5, {}, "new"}, true},
      {"other revision", true, {"k", 4, {}, "new"}, false},
      {"expected absent, is there", true, {"k", 0, {}, "new"}, false},
      {"expected absent, is absent", false, {"k", 0, {}, "new"}, true},
      {"revision of an absent key", false, {"k", 5, {}, "new"}, false},
      {"same value", true, {"k", 0, "old", "new"}, true},
      {"other value", true, {"k", 0, "else", "new"}, false},
      {"empty value", true, {"k", 0, "", "new"}, false},
      {"value of an absent key", false, {"k", 0, "", "new"}, false},
  };
  for (const auto& c : cases) {
    KvStore store;
    if (c.there) store.apply(KvPut{"k", "old"}, 5);
    const KvStore::Effect effect = store.apply(c.op, 6);
    EXPECT_TRUE(effect.status) << c.name;
    EXPECT_EQ(effect.changed, c.changed) << c.name;
    if (c.changed) {
      EXPECT_EQ(*store.find("k"), (KvItem{"new", c.there ? 5u : 6u, 6, 0})) << c.name;
    } else {
      EXPECT_EQ(store.find("k") != nullptr, c.there) << c.name;
      EXPECT_EQ(store.counts().conflicts, 1u) << c.name;
    }
  }
}

TEST(KvStore, AnExpiryEndsOnlyTheRevisionThatItNames) {
  KvStore store;
  store.apply(KvPut{"k", "1", 1000}, 1);
  EXPECT_EQ(store.with_ttl(), 1u);
  store.apply(KvPut{"k", "2", 2000}, 2);
  EXPECT_EQ(store.with_ttl(), 1u);
  EXPECT_FALSE(store.apply(KvExpire{"k", 1}, 3).changed) << "it was renewed";
  EXPECT_TRUE(store.apply(KvExpire{"k", 2}, 4).changed);
  EXPECT_EQ(store.with_ttl(), 0u);
  EXPECT_EQ(store.bytes(), 0u);
  EXPECT_EQ(store.counts().expirations, 1u);
  store.apply(KvPut{"k", "3", 1000}, 5);
  store.apply(KvPut{"k", "4"}, 6);
  EXPECT_EQ(store.with_ttl(), 0u);
}

TEST(KvStore, PagesOfKeysCoverEachKeyOnce) {
  KvStore store;
  Revision revision = 0;
  for (const char* key : {"a", "b/1", "b/2", "b/3", "b0", "c"}) {
    store.apply(KvPut{key, ""}, ++revision);
  }
  using Keys = std::vector<std::string>;
  EXPECT_EQ(store.keys("", "", 100), (Keys{"a", "b/1", "b/2", "b/3", "b0", "c"}));
  EXPECT_EQ(store.keys("b/", "", 2), (Keys{"b/1", "b/2"}));
  EXPECT_EQ(store.keys("b/", "b/2", 2), (Keys{"b/3"}));
  EXPECT_EQ(store.keys("b/", "b/3", 2), (Keys{}));
  EXPECT_EQ(store.keys("b/", "a", 1), (Keys{"b/1"}));
  EXPECT_EQ(store.keys("b/", "zzz", 9), (Keys{}));
  EXPECT_EQ(store.keys("", "b/2x", 1), (Keys{"b/3"})) << "a page's last key may be gone by now";
}

TEST(KvStore, WatchersSeeEveryChangeOnceAndInOrder) {
  KvStore store;
  store.apply(KvPut{"a", "1"}, 3);
  store.apply(KvPut{"b", "x", 1000}, 4);
  store.apply(KvDelete{"a"}, 6);
  store.apply(KvExpire{"b", 4}, 9);
  const auto all = store.changes("", 0, 100);
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 4u);
  EXPECT_EQ((*all)[0].value, "1");
  EXPECT_EQ((*all)[2].kind, KvChange::Kind::kDelete);
  EXPECT_EQ((*all)[3].kind, KvChange::Kind::kExpire);
  std::vector<Revision> seen;
  for (Revision after = 0;;) {
    const auto next = store.changes("", after, 1);
    ASSERT_TRUE(next);
    if (next->empty()) break;
    after = next->front().revision;
    seen.push_back(after);
  }
  EXPECT_EQ(seen, (std::vector<Revision>{3, 4, 6, 9}));
  ASSERT_EQ(store.changes("a", 3, 100)->size(), 1u);
  EXPECT_EQ(store.changes("a", 3, 100)->front().revision, 6u);
}

TEST(KvStore, ChangesThatAreNotKeptAreNotPassedOverInSilence) {
  KvStore store;
  for (Revision r = 1; r <= kKeptChanges + 5; ++r) store.apply(KvPut{"k", "v"}, r);
  EXPECT_EQ(store.changes_kept_after(), 5u);
  EXPECT_EQ(store.changes("", 4, 10).status().code(), Code::kFailedPrecondition);
  EXPECT_EQ(store.changes("", 5, kKeptChanges)->size(), kKeptChanges);

  KvStore large;
  const std::string value(kMaxValueBytes, 'v');
  for (Revision r = 1; r <= 20; ++r) large.apply(KvPut{"k", value}, r);
  EXPECT_GE(large.changes_kept_after(), 12u) << "what is kept has a bound in bytes too";
  EXPECT_TRUE(large.changes("", large.changes_kept_after(), 10));
}

TEST(KvStore, ACopyKnowsTheStateButNoChangesBefore) {
  KvStore store;
  store.apply(KvPut{"a", "1", 1000}, 3);
  store.apply(KvPut{"b", "2"}, 7);
  store.apply(KvDelete{"b"}, 8);
  KvStore copy = copy_by_snapshot(store);
  EXPECT_EQ(copy.items(), store.items());
  EXPECT_EQ(copy.bytes(), store.bytes());
  EXPECT_EQ(copy.with_ttl(), 1u);
  EXPECT_EQ(copy.revision(), 8u);
  EXPECT_EQ(copy.changes("", 7, 10).status().code(), Code::kFailedPrecondition);
  EXPECT_TRUE(copy.changes("", 8, 10));
  copy.apply(KvPut{"c", "3"}, 12);
  EXPECT_EQ(copy.changes("", 8, 10)->size(), 1u);
}

TEST(KvKeys, MustBeUtf8WithoutZeroBytes) {
  const struct {
    std::string key;
    bool good;
  } cases[] = {{"plain", true},
               {"\xc3\xa9t\xc3\xa9", true},
               {"\xe2\x82\xac", true},
               {"\xf0\x9f\x90\x98", true},
               {"\xf4\x8f\xbf\xbf", true},
               {std::string("a\0b", 3), false},
               {"\x80", false},
               {"\xc3", false},
               {"\xc0\xaf", false},
               {"\xe0\x9f\xbf", false},
               {"\xed\xa0\x80", false},
               {"\xf0\x8f\xbf\xbf", false},
               {"\xf4\x90\x80\x80", false},
               {"\xf5\x80\x80\x80", false},
               {"\xe2\x82", false},
               {"\xe2\x28\xa1", false}};
  for (const auto& c : cases) {
    EXPECT_EQ(validate(KvPut{c.key, ""}).is_ok(), c.good) << testing::PrintToString(c.key);
  }
}

}  // namespace
}  // namespace pgraft::state
