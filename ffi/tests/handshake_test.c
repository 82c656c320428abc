// The VMM's message to its pager, from the shim, from Firecracker, and broken.
#include "handshake.h"
#include "test.h"

static const char *parse(const char *text, struct torpor_handshake *handshake) {
    return torpor_handshake_parse(text, strlen(text), handshake);
}

TEST(handshake_round_trip) {
    const struct torpor_handshake sent = {.regions = {{0x7f0000001000, 1 << 28, 0}}, .region_count = 1, .tracking = true, .uffd_fd = 17};
    struct torpor_handshake got;
    char text[512];
    const int length = torpor_handshake_format(text, sizeof text, &sent);
    CHECK(length > 0);
    CHECK(!torpor_handshake_parse(text, (size_t)length, &got));
    CHECK_EQ(got.region_count, 1);
    CHECK(!memcmp(&got.regions[0], &sent.regions[0], sizeof got.regions[0]));
    CHECK_EQ(got.tracking, 1);
    CHECK_EQ(got.uffd_fd, 17);
    CHECK(torpor_handshake_covers(&got, 1 << 28));
    CHECK(!torpor_handshake_covers(&got, 1 << 29));
    CHECK_EQ(torpor_handshake_format(text, 20, &sent), -1);
}

TEST(handshake_of_firecracker_with_two_regions) {
    struct torpor_handshake got;
    CHECK(!parse("[ {\"base_host_virt_addr\":139637976727552,\"size\":4096,\"offset\":8192,\"page_size_kib\":4096,\"label\":null},\n"
                 "{\"base_host_virt_addr\":4096,\"size\":8192,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096} ]",
                 &got));
    CHECK_EQ(got.region_count, 2);
    CHECK_EQ(got.regions[0].offset, 0);
    CHECK_EQ(got.regions[1].base_host_virt_addr, 139637976727552);
    CHECK_EQ(got.tracking, 0);
    CHECK_EQ(got.uffd_fd, -1);
    CHECK(torpor_handshake_covers(&got, 12288));
}

TEST(handshake_refuses_what_it_does_not_understand) {
    static const char *const broken[] = {
        "", "[", "[]", "{}", "[{}]", "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0}]",
        "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0,\"page_size\":2097152}]",
        "[{\"base_host_virt_addr\":4097,\"size\":4096,\"offset\":0,\"page_size\":4096}]",
        "[{\"base_host_virt_addr\":4096,\"size\":0,\"offset\":0,\"page_size\":4096}]",
        "[{\"base_host_virt_addr\":18446744073709547520,\"size\":8192,\"offset\":0,\"page_size\":4096}]",
        "[{\"base_host_virt_addr\":18446744073709551616,\"size\":4096,\"offset\":0,\"page_size\":4096}]",
        "[{\"base_host_virt_addr\":-4096,\"size\":4096,\"offset\":0,\"page_size\":4096}]",
        "[{\"base_host_virt_addr\":\"4096\",\"size\":4096,\"offset\":0,\"page_size\":4096}]",
        "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0,\"page_size\":4096}] x",
        "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0,\"page_size\":4096},]",
    };
    struct torpor_handshake got;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        CHECK(parse(broken[i], &got));
}

TEST(handshake_survives_random_damage) {
    static const char original[] =
        "[{\"base_host_virt_addr\":140000000000000,\"size\":1048576,\"offset\":0,\"page_size\":4096,\"tracking\":true}]";
    static const char alphabet[] = "[]{}\",:\\0123456789eftn-. ";
    uint64_t random = 3;
    for (int i = 0; i < 200000; i++) {
        const size_t length = next_random(&random) % 4 ? sizeof original - 1 : next_random(&random) % sizeof original;
        char *text = malloc(length ? length : 1);
        memcpy(text, original, length);
        for (uint64_t changes = next_random(&random) % 4; changes && length; changes--)
            text[next_random(&random) % length] = alphabet[next_random(&random) % (sizeof alphabet - 1)];
        struct torpor_handshake got;
        if (!torpor_handshake_parse(text, length, &got))
            CHECK(got.region_count >= 1 && got.regions[0].size % 4096 == 0);
        free(text);
    }
}
