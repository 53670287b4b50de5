/* Entry point; commands live in one file each beside this one. */
int main(void)
{
    return 0;
}
